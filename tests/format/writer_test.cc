#include "format/writer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <limits>

#include "format/file.h"
#include "format/panel.h"
#include "tests/compare.h"
#include "tests/format/sample.h"

using namespace linnet;
using namespace linnet::format;
using namespace linnet::format::testing;

namespace {

// Both ways of keeping the unfinished file out of sight.
constexpr WriterOptions kBothWays[] = {{.expected_bytes = 0, .unnamed = true},
                                       {.expected_bytes = 0, .unnamed = false}};

bool has_unnamed_files(const std::filesystem::path& folder) {
#ifdef O_TMPFILE
  return static_cast<bool>(UniqueFd(open(folder.c_str(), O_TMPFILE | O_RDWR, 0600)));
#else
  return false;
#endif
}

// While it lives, files cannot grow beyond `bytes`, and writing more is an error instead of a signal.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    handler_ = signal(SIGXFSZ, SIG_IGN);
    active_ = setrlimit(RLIMIT_FSIZE, &limit) == 0;
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }
  bool active() const { return active_; }

 private:
  rlimit before_ = {};
  void (*handler_)(int) = SIG_DFL;
  bool active_ = false;
};

}  // namespace

TEST_CASE("a finished file is alone in its folder and readable as the umask says") {
  for (const WriterOptions& options : kBothWays) {
    const TempFolder folder;
    const auto size = write_sample(folder / "a.lnt", options);
    REQUIRE_MESSAGE(size, (size ? "" : size.error().message));
    CHECK(folder.entries() == 1);
    CHECK(*size == std::filesystem::file_size(folder / "a.lnt"));
    struct stat info = {};
    REQUIRE(stat((folder / "a.lnt").c_str(), &info) == 0);
    const mode_t mask = umask(0);
    umask(mask);
    CHECK((info.st_mode & 0777) == (0666 & ~mask));
    // Again over itself, while it is mapped: the reader keeps the old file.
    const auto reader = ModelFile::open(folder / "a.lnt");
    REQUIRE(reader);
    REQUIRE(write_sample(folder / "a.lnt", options));
    CHECK(folder.entries() == 1);
    CHECK(reader->verify_checksums());
  }
}

TEST_CASE("the same input gives the same bytes") { CHECK(sample_bytes() == sample_bytes()); }

TEST_CASE("an unfinished file leaves nothing, and what was there stays") {
  for (const WriterOptions& options : kBothWays) {
    const TempFolder folder;
    {
      auto writer = ModelWriter::create(folder / "a.lnt", options);
      REQUIRE(writer);
      REQUIRE(write_sample_weights(*writer));
      CHECK_FALSE(std::filesystem::exists(folder / "a.lnt"));
      CHECK(folder.entries() == (options.unnamed && has_unnamed_files(folder / ".") ? 0 : 1));
    }
    CHECK(folder.entries() == 0);

    REQUIRE(write_sample(folder / "a.lnt"));
    const auto before = read_file(folder / "a.lnt");
    {
      auto writer = ModelWriter::create(folder / "a.lnt", options);
      REQUIRE(writer);
      REQUIRE(write_sample_weights(*writer));
      auto model = sample_structure();
      model.methods[0]->outputs = {99};  // refused by the verifier
      const auto result = writer->finish(std::move(model));
      REQUIRE_FALSE(result);
      CHECK(contains(result.error().message, "its outputs refer to value 99"));
    }
    CHECK(folder.entries() == 1);
    CHECK(read_file(folder / "a.lnt") == before);
  }
}

TEST_CASE("a killed conversion leaves nothing") {
  const TempFolder folder;
  if (!has_unnamed_files(folder / ".")) {
    linnet::testing::skipped(
        "this file system has no unnamed files: a killed conversion leaves its temporary here");
    return;
  }
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto writer = ModelWriter::create(folder / "a.lnt");
    const bool written = writer && write_sample_weights(*writer);
    if (written) raise(SIGKILL);
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(folder.entries() == 0);
}

TEST_CASE("a full disk is an error with its reason, and leaves nothing") {
  for (const WriterOptions& options : kBothWays) {
    const TempFolder folder;
    std::string message;
    ErrorCode code = ErrorCode::kInternal;
    {
      const FileSizeLimit limit(1 << 20);
      REQUIRE(limit.active());
      auto writer = ModelWriter::create(folder / "a.lnt", options);
      REQUIRE(writer);
      REQUIRE(writer->begin_weight("large", DType::kF32, fb::Layout::RowMajor, {8 << 20}));
      const std::vector<std::byte> piece(1 << 20, std::byte{1});
      Result<void> result;
      size_t pieces = 0;
      for (; pieces < 32 && result; ++pieces) result = writer->write(piece);
      REQUIRE_FALSE(result);
      CHECK(pieces < 32);
      message = result.error().message;
      code = result.error().code;
      // The first error stays.
      const auto finished = writer->finish({});
      REQUIRE_FALSE(finished);
      CHECK(finished.error().message == message);
    }
    CHECK(code == ErrorCode::kIo);
    CHECK(contains(message, "a.lnt"));
    CHECK(contains(message, "File too large"));
    CHECK(contains(message, "it needs at least"));
    CHECK(folder.entries() == 0);
  }
}

TEST_CASE("a full disk when the last bytes are written is an error too") {
  const TempFolder folder;
  {
    auto writer = ModelWriter::create(folder / "a.lnt");
    REQUIRE(writer);
    REQUIRE(write_sample_weights(*writer));
    const FileSizeLimit limit(20'000);
    const auto result = writer->finish(sample_structure());
    REQUIRE_FALSE(result);
    CHECK(contains(result.error().message, "File too large"));
  }
  CHECK(folder.entries() == 0);
}

TEST_CASE("a place that cannot be written is refused at once") {
  const TempFolder folder;
  CHECK(contains(ModelWriter::create(folder / "none" / "a.lnt").error().message, "does not exist"));
  CHECK(contains(ModelWriter::create(folder / ".").error().message, "it is a folder"));
  CHECK(contains(ModelWriter::create("").error().message, "it is a folder"));
  const auto huge = ModelWriter::create(folder / "a.lnt", {.expected_bytes = uint64_t{1} << 60});
  REQUIRE_FALSE(huge);
  CHECK(contains(huge.error().message, "needs 1152921504606846976 bytes, and the disk has"));
  CHECK(folder.entries() == 0);
}

TEST_CASE("wrong calls are errors that stay") {
  const TempFolder folder;
  const std::vector<std::byte> four(4), eight(8);
  const auto wrong = [&](std::string_view message, auto calls) {
    auto writer = ModelWriter::create(folder / "a.lnt");
    REQUIRE(writer);
    const Error error = calls(*writer).error();
    CAPTURE(error.message);
    CHECK(error.code == ErrorCode::kInvalidArgument);
    CHECK(contains(error.message, message));
    CHECK(writer->finish({}).error().message == error.message);
  };
  const auto begin = [](ModelWriter& w) {
    return w.begin_weight("w", DType::kF32, fb::Layout::RowMajor, {1});
  };
  wrong("outside a weight", [&](ModelWriter& w) { return w.write(four); });
  wrong("no weight was begun", [&](ModelWriter& w) { return w.end_weight(); });
  wrong("got more than the 4 bytes", [&](ModelWriter& w) { return begin(w), w.write(eight); });
  wrong("got 0 of the 4 bytes", [&](ModelWriter& w) { return begin(w), w.end_weight(); });
  wrong("begins inside weight 'w'", [&](ModelWriter& w) { return begin(w), begin(w); });
  wrong("begins inside a weight", [&](ModelWriter& w) { return begin(w), w.begin_segment(); });
  wrong("begun and not ended", [&](ModelWriter& w) { return begin(w), w.finish({}); });
  wrong("aligned to 64", [&](ModelWriter& w) { return w.begin_segment(64); });
  wrong("aligned to 49152", [&](ModelWriter& w) { return w.begin_segment(3 * kPageBytes); });
  wrong("cannot be stored: type q8",
        [&](ModelWriter& w) { return w.begin_weight("w", DType::kQ8, fb::Layout::RowMajor, {32}); });
  const auto no_rows = [](int64_t, int64_t, float*) -> Result<void> { return {}; };
  const auto no_groups = [](int64_t, int64_t, BlockGroup*) -> Result<void> { return {}; };
  wrong("2 or 3 dimensions",
        [&](ModelWriter& w) { return w.pack_and_write_matrix("w", DType::kF32, {4}, no_rows); });
  wrong("2 or 3 dimensions",
        [&](ModelWriter& w) { return w.pack_and_write_matrix("w", DType::kF32, {}, no_rows); });
  wrong("not made of groups", [&](ModelWriter& w) {
    return w.pack_and_write_groups("w", DType::kQ4, {4, 33}, no_groups);
  });
  wrong("not made of groups", [&](ModelWriter& w) {
    return w.pack_and_write_groups("w", DType::kF16, {4, 32}, no_groups);
  });
  auto writer = ModelWriter::create(folder / "b.lnt");
  REQUIRE(writer);
  REQUIRE(writer->finish({}));
  CHECK_FALSE(writer->finish({}));
  CHECK_FALSE(begin(*writer));
}

TEST_CASE("values a type cannot hold are refused with the tensor's name and rows") {
  const TempFolder folder;
  for (const auto& [dtype, bad] :
       std::vector<std::pair<DType, float>>{{DType::kQ4, std::numeric_limits<float>::quiet_NaN()},
                                            {DType::kF32, std::numeric_limits<float>::infinity()},
                                            {DType::kF16, 70000.0f}}) {
    auto writer = ModelWriter::create(folder / "a.lnt");
    REQUIRE(writer);
    const auto result = writer->pack_and_write_matrix(
        "layers.3.up", dtype, {40, 32},
        [bad = bad](int64_t first, int64_t rows, float* values) -> Result<void> {
          std::fill_n(values, rows * 32, 1.0f);
          if (first == 32) values[7 * 32] = bad;
          return {};
        });
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::kNumeric);
    CHECK(contains(result.error().message, "tensor 'layers.3.up': rows 32 to 39"));
  }
  CHECK(folder.entries() == 0);
}

TEST_CASE("an error of the source ends the matrix with that error") {
  const TempFolder folder;
  auto writer = ModelWriter::create(folder / "a.lnt");
  REQUIRE(writer);
  const auto result =
      writer->pack_and_write_matrix("w", DType::kF32, {20, 4}, [](int64_t first, int64_t, float* v) {
        std::fill_n(v, 64, 0.0f);
        return first == 0 ? Result<void>() : fail(ErrorCode::kCancelled, "stopped");
      });
  REQUIRE_FALSE(result);
  CHECK(result.error().message == "stopped");
}

TEST_CASE("experts are matrices one after another, from floats and from groups") {
  const TempFolder folder;
  auto writer = ModelWriter::create(folder / "a.lnt");
  REQUIRE(writer);
  constexpr int64_t kExperts = 3, kRows = 18, kWidth = 64;
  const auto value = [](int64_t row, int64_t column) { return static_cast<float>(row * 1000 + column); };
  REQUIRE(writer->pack_and_write_matrix("floats", DType::kF32, {kExperts, kRows, kWidth},
                                        [&](int64_t first, int64_t rows, float* out) -> Result<void> {
                                          for (int64_t r = 0; r < rows; ++r)
                                            for (int64_t c = 0; c < kWidth; ++c) *out++ = value(first + r, c);
                                          return {};
                                        }));
  // Every group of row r: scale 1, codes r % 16 in the low halves and 8 (zero) in the high ones.
  REQUIRE(writer->pack_and_write_groups("groups", DType::kQ4, {kExperts, kRows, kWidth},
                                        [&](int64_t first, int64_t rows, BlockGroup* out) -> Result<void> {
                                          for (int64_t g = 0; g < rows * 2; ++g, ++out) {
                                            out->scale = 0x3C00;
                                            out->codes.fill(8);
                                            const auto low = static_cast<uint8_t>((first + g / 2) % 16);
                                            std::fill_n(out->codes.begin(), 16, low);
                                          }
                                          return {};
                                        }));
  REQUIRE(writer->finish({}));
  const auto file = ModelFile::open(folder / "a.lnt");
  REQUIRE(file);
  std::vector<float> row(kWidth);
  for (const size_t index : {0u, 1u}) {
    const DType dtype = index == 0 ? DType::kF32 : DType::kQ4;
    const std::byte* data = file->weight_bytes(index).data();
    for (int64_t e = 0; e < kExperts; ++e)
      for (int64_t r = 0; r < 32; ++r) {
        const std::byte* panel = data + static_cast<size_t>(e) * matrix_bytes(dtype, kRows, kWidth) +
                                 static_cast<size_t>(r / 16) * panel_bytes(dtype, kWidth);
        unpack_panel_row(dtype, panel, r % 16, kWidth, row.data());
        for (int64_t c = 0; c < kWidth; ++c) {
          const int64_t n = e * kRows + r;
          const float expected = r >= kRows    ? 0.0f
                                 : index == 0  ? value(n, c)
                                 : c % 32 < 16 ? static_cast<float>(n % 16 - 8)
                                               : 0.0f;
          REQUIRE(row[static_cast<size_t>(c)] == expected);
        }
      }
  }
}

TEST_CASE("pieces of any size give the same file") {
  const TempFolder folder;
  std::vector<float> values(3'000'000);  // more than the writer's buffer
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const auto bytes = std::as_bytes(std::span(values));
  const auto write = [&](const char* name, size_t piece) -> Result<uint64_t> {
    LINNET_ASSIGN(auto writer, ModelWriter::create(folder / name));
    LINNET_TRY(
        writer.begin_weight("w", DType::kF32, fb::Layout::RowMajor, {static_cast<int64_t>(values.size())}));
    for (size_t at = 0; at < bytes.size(); at += piece)
      LINNET_TRY(writer.write(bytes.subspan(at, std::min(piece, bytes.size() - at))));
    LINNET_TRY(writer.end_weight());
    return writer.finish({});
  };
  REQUIRE(write("whole.lnt", bytes.size()));
  REQUIRE(write("pieces.lnt", 4099));
  CHECK(read_file(folder / "whole.lnt") == read_file(folder / "pieces.lnt"));
  const auto file = ModelFile::open(folder / "pieces.lnt");
  REQUIRE(file);
  CHECK(std::memcmp(file->weight_bytes(0).data(), bytes.data(), bytes.size()) == 0);
  CHECK(file->verify_checksums());
}
