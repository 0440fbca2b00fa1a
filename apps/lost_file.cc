#include "apps/lost_file.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "apps/common.h"

namespace linnet::app {
namespace {

// All of this runs in a signal handler: system calls and memory of its own stack, no library that allocates.

void say_text(const char* text, size_t length) { static_cast<void>(!::write(STDERR_FILENO, text, length)); }
void say_text(const char* text) { say_text(text, std::strlen(text)); }

const char* read_hex(const char* at, uintptr_t& value) {
  for (value = 0;; ++at) {
    const char c = *at;
    if (c >= '0' && c <= '9')
      value = value * 16 + static_cast<uintptr_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      value = value * 16 + static_cast<uintptr_t>(c - 'a') + 10;
    else
      return at;
  }
}

// The file in a line "from-to rwxp offset device inode   path" of /proc/self/maps if `address` lies in it.
const char* file_at(const char* line, uintptr_t address) {
  uintptr_t from = 0, to = 0;
  line = read_hex(line, from);
  if (*line != '-') return nullptr;
  read_hex(line + 1, to);
  return address >= from && address < to ? std::strchr(line, '/') : nullptr;
}

// Says which file is mapped at `address`, if the system tells.
void name_file(uintptr_t address) {
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (maps < 0) return;
  char line[4352];  // a path of PATH_MAX and what stands before it; the rest of a longer one is left out
  size_t length = 0;
  char bytes[1024];
  for (ssize_t n; (n = ::read(maps, bytes, sizeof(bytes))) > 0;) {
    for (ssize_t i = 0; i < n; ++i) {
      if (bytes[i] != '\n') {
        // As printable() would, if it could be called here.
        const auto c = static_cast<unsigned char>(bytes[i]);
        if (length + 1 < sizeof(line)) line[length++] = c < 0x20 || c >= 0x7F ? '?' : bytes[i];
        continue;
      }
      line[length] = '\0';
      length = 0;
      if (const char* file = file_at(line, address)) {
        say_text(" '");
        say_text(file);
        say_text("'");
        ::close(maps);
        return;
      }
    }
  }
  ::close(maps);
}

// Threads that read the same weights come here together: the first one speaks.
std::atomic_flag g_told;

void on_lost_file(int, siginfo_t* info, void*) {
  while (g_told.test_and_set()) ::pause();
  say_text("linnet: the file");
  name_file(reinterpret_cast<uintptr_t>(info->si_addr));
  say_text(
      " became shorter while it was read, or its disk failed: run it again once the file is whole, and "
      "replace model files by renaming a new one into place\n");
  ::_exit(kFailed);
}

}  // namespace

void report_lost_files() {
  struct sigaction action = {};
  action.sa_sigaction = on_lost_file;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace linnet::app
