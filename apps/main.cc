// The linnet command: arguments in, text out. What it does lives in the libraries.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <exception>
#include <new>

#include "apps/command_line.h"
#include "apps/common.h"
#include "apps/lost_file.h"
#include "runtime/core/strings.h"

namespace {

// A file opened later must not get the number of a standard stream that was closed: answers would be written
// into it. What takes its place refuses reading or writing as the closed one does.
void occupy_closed_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
      static_cast<void>(::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

}  // namespace

int main(int argc, char** argv) {
  using namespace linnet;
  // Only the character set: numbers must look the same everywhere.
  std::setlocale(LC_CTYPE, "");
  // A file that may grow no further is an error that is told, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  // A reader that has left is one, too: no silent end by SIGPIPE.
  std::signal(SIGPIPE, SIG_IGN);
  app::report_lost_files();
  occupy_closed_streams();
  try {
    app::CommandLine line;
    app::add_chat(line);
    app::add_image(line);
    app::add_run(line);
    app::add_inspect(line);
    app::add_bench(line);
    app::add_convert(line);
    app::add_eval(line);
    const int code = line.run(argc, argv);
    if (code == app::kOk)
      if (auto written = app::flush_stdout(); !written) return app::complain(written.error());
    return code;
  } catch (const std::bad_alloc&) {
    return app::complain({ErrorCode::kOutOfMemory, "the system has no memory left"});
  } catch (const std::exception& e) {
    return app::complain({ErrorCode::kInternal, strf("unexpected: {}", e.what())});
  }
}
