#include "format/output_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "runtime/core/strings.h"
#include "tests/contains.h"
#include "tests/format/sample.h"

namespace linnet::format::testing {
namespace {

namespace fs = std::filesystem;
using linnet::testing::contains;

std::vector<std::byte> filled(char with, size_t bytes) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(with));
}
std::string message(const Result<void>& result) { return result ? "" : result.error().message; }
mode_t permissions(const fs::path& path) {
  struct stat info = {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  return info.st_mode & 0777;
}

// A device that takes nothing, in this folder where root may make one; root could replace the system's.
fs::path full_device(const TempFolder& folder) {
  constexpr dev_t kFull = 1 << 8 | 7;
  if (mknod((folder / "full").c_str(), S_IFCHR | 0666, kFull) == 0) return folder / "full";
  return "/dev/full";
}

}  // namespace

TEST_CASE("two that save to one path at once never leave a mixed file") {
  constexpr int kRounds = 60;
  for (const bool unnamed : {true, false}) {
    const TempFolder folder;
    const fs::path path = folder / "state";
    std::atomic<int> running = 2, failed = 0;
    const auto save = [&](char with, size_t bytes) {
      const auto half = filled(with, bytes);
      for (int i = 0; i < kRounds; ++i)
        if (!format::write_file(path, {half, half}, {.unnamed = unnamed})) ++failed;
      --running;
    };
    std::thread a(save, 'a', 100000), b(save, 'b', 60000);
    int mixed = 0, seen = 0;
    while (running > 0) {
      const auto bytes = read_file(path);
      if (bytes.empty()) continue;  // not there yet
      ++seen;
      mixed += bytes != filled(static_cast<char>(bytes[0]), bytes[0] == std::byte{'a'} ? 200000 : 120000);
    }
    a.join();
    b.join();
    CHECK(failed == 0);
    CHECK(seen > 0);
    CHECK(mixed == 0);
    CHECK(folder.entries() == 1);
  }
}

TEST_CASE("of two that may not replace exactly one gets the name") {
  for (const bool unnamed : {true, false}) {
    const TempFolder folder;
    for (int round = 0; round < 30; ++round) {
      const fs::path path = folder / strf("state{}", round).c_str();
      std::atomic<int> done = 0, open = 0;
      const auto save = [&](char with) {
        auto file = OutputFile::create(path, {.replace = false, .unnamed = unnamed});
        ++open;
        while (open < 2) std::this_thread::yield();
        if (file && file->append(filled(with, 1000)) && file->publish()) ++done;
      };
      std::thread a(save, 'a'), b(save, 'b');
      a.join();
      b.join();
      CHECK(done == 1);
      CHECK(read_file(path).size() == 1000);
    }
    CHECK(folder.entries() == 30);
    CHECK(contains(message(format::write_file(folder / "state0", {}, {.replace = false})), "--force"));
    CHECK(contains(message(check_output(folder / "state0", {.replace = false})), "exists already"));
    CHECK(check_output(folder / "state0", {}));
  }
}

TEST_CASE("pipes and devices are written to or refused, and never replaced") {
  const TempFolder folder;
  const fs::path pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(message(check_output(pipe, {})), "not a regular file but a pipe"));
  CHECK_FALSE(OutputFile::create(pipe, {}));
  const auto half = filled('x', 100000);
  std::vector<std::byte> arrived;
  std::thread reader([&] { arrived = read_file(pipe); });
  CHECK(message(format::write_file(pipe, {half, half}, {.stream = true})) == "");
  reader.join();
  CHECK(arrived == filled('x', 200000));
  CHECK(fs::is_fifo(pipe));

  // A reader that goes is an error, not the end of the process.
  std::thread hasty([&] { UniqueFd(::open(pipe.c_str(), O_RDONLY)); });
  const auto left = format::write_file(pipe, {half, half, half}, {.stream = true});
  hasty.join();
  REQUIRE_FALSE(left);
  CHECK(left.error().code == ErrorCode::kIo);
  CHECK(contains(left.error().message, "pipe"));

  const fs::path device = full_device(folder);
  CHECK(contains(message(check_output(device, {})), "not a regular file but a device"));
  const auto full = format::write_file(device, {half}, {.stream = true});
  REQUIRE_FALSE(full);
  CHECK(full.error().code == ErrorCode::kIo);
  CHECK(contains(full.error().message, "No space left"));
  CHECK(fs::is_character_file(device));

  auto file = OutputFile::create("/dev/stderr", {.stream = true});
  REQUIRE(file);
  CHECK_FALSE(file->write_at(10, half));  // out of order
  CHECK(contains(message(check_output("/dev/fd/2", {})), "it is a stream"));
}

TEST_CASE("what a descriptor has open is gone on with") {
  const TempFolder folder;
  const UniqueFd fd(::open((folder / "out").c_str(), O_CREAT | O_RDWR, 0600));
  REQUIRE(::write(fd.get(), "before ", 7) == 7);
  const std::string name = strf("/dev/fd/{}", fd.get());
  REQUIRE(format::write_file(name, {filled('x', 5)}, {.stream = true}));
  const auto bytes = read_file(folder / "out");
  CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == "before xxxxx");
}

TEST_CASE("a link stays and leads to the new file; one in the way of the temporary name is not followed") {
  for (const bool unnamed : {true, false}) {
    const TempFolder folder;
    fs::create_directory(folder / "far");
    write_file(folder / "far/file", filled('o', 10));
    write_file(folder / "victim", filled('v', 10));
    fs::create_symlink("far/file", folder / "link");
    for (int i = 0; i < 3; ++i)
      for (const char* where : {"far", "."})
        fs::create_symlink(folder / "victim", folder / where / strf(".linnet.{}.{}.partial", getpid(), i));
    REQUIRE(message(format::write_file(folder / "link", {filled('n', 20)}, {.unnamed = unnamed})) == "");
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(read_file(folder / "far/file") == filled('n', 20));
    CHECK(read_file(folder / "victim") == filled('v', 10));
    fs::create_symlink("nowhere", folder / "dangling");
    CHECK(contains(message(check_output(folder / "dangling", {})), "leads nowhere"));
    fs::create_symlink("round", folder / "round");
    CHECK(contains(message(check_output(folder / "round", {})), "leads nowhere"));
  }
}

TEST_CASE("a new file is as the umask says, one in the place of another no more open than that") {
  const TempFolder folder;
  const mode_t mask = umask(0);
  umask(mask);
  REQUIRE(format::write_file(folder / "new", {}, {}));
  CHECK(permissions(folder / "new") == (0666 & ~mask));
  for (const bool unnamed : {true, false}) {
    write_file(folder / "private", filled('p', 1));
    REQUIRE(chmod((folder / "private").c_str(), 0600) == 0);
    REQUIRE(format::write_file(folder / "private", {filled('q', 2)}, {.unnamed = unnamed}));
    CHECK(permissions(folder / "private") == 0600);
  }
  REQUIRE(chmod((folder / "private").c_str(), 0400) == 0);
  if (geteuid() == 0)
    MESSAGE("skipped: root may write to read-only files");
  else
    CHECK(contains(message(check_output(folder / "private", {})), "read-only"));
}

TEST_CASE("a disk of 64 KiB: refused at once, or when it is full, and nothing is left") {
  const TempFolder folder;
  const fs::path disk = folder / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    MESSAGE("skipped: only root may mount a small disk here");
    return;
  }
  {
    const auto large = filled('l', 100000);
    CHECK(contains(message(format::write_file(disk / "a", {large}, {})), "the disk has 65536 free"));
    for (const bool unnamed : {true, false}) {
      auto file = OutputFile::create(disk / "a", {.unnamed = unnamed});
      REQUIRE(file);
      const auto written = file->append(large);
      REQUIRE_FALSE(written);
      CHECK(written.error().code == ErrorCode::kIo);
      CHECK(contains(written.error().message, "it needs at least 100000 bytes"));
    }
    CHECK(fs::is_empty(disk));
  }
  CHECK(umount(disk.c_str()) == 0);
}

}  // namespace linnet::format::testing
