#include "format/container.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "format/file.h"
#include "format/panel.h"
#include "tests/format/sample.h"

using namespace linnet;
using namespace linnet::format;
using namespace linnet::format::testing;

namespace {

std::string open_error(std::span<const std::byte> bytes) {
  const auto file = ModelFile::from_memory(bytes);
  return file ? "" : file.error().message;
}

// Reads all that an open file offers, over-read included.
uint64_t read_everything(const ModelFile& file) {
  uint64_t sum = 0;
  for (size_t i = 0; i < file.model().weights.size(); ++i) {
    const auto bytes = file.weight_bytes(i);
    for (size_t b = 0; b < bytes.size() + kOverRead; ++b) sum += static_cast<uint64_t>(bytes.data()[b]);
  }
  return sum;
}

}  // namespace

TEST_CASE("what was written is read back") {
  const TempFolder folder;
  REQUIRE(write_sample(folder / "a.lnt"));
  auto opened = ModelFile::open(folder / "a.lnt");
  REQUIRE_MESSAGE(opened, (opened ? "" : opened.error().message));
  const ModelFile file = std::move(*opened);
  const fb::ModelT& model = file.model();
  CHECK(model.metadata[0]->value == "sample");
  CHECK(model.chat_template == "{{ messages[0].content }}");
  CHECK(model.tokenizer->pieces[3] == std::string("\0\xFF", 2));
  CHECK(model.methods[0]->nodes[1]->args.AsNorm()->epsilon == 1e-5f);
  CHECK(model.methods[0]->nodes[1]->inputs == std::vector<int32_t>{1, -1});
  REQUIRE(model.segments.size() == 2);
  REQUIRE(model.weights.size() == 3);
  CHECK(model.weights[2]->segment == 1);

  std::vector<float> row(kSampleWidth);
  const auto matrix = file.weight_bytes(0);
  REQUIRE(matrix.size() == matrix_bytes(DType::kQ8, kSampleRows, kSampleWidth));
  for (int64_t r = 0; r < 32; ++r) {
    const size_t panel = panel_bytes(DType::kQ8, kSampleWidth) * static_cast<size_t>(r / 16);
    unpack_panel_row(DType::kQ8, matrix.data() + panel, r % 16, kSampleWidth, row.data());
    for (int64_t c = 0; c < kSampleWidth; ++c) {
      const float expected = r < kSampleRows ? sample_value(r, c) : 0.0f;
      REQUIRE(row[static_cast<size_t>(c)] == doctest::Approx(expected).epsilon(0.01).scale(127));
    }
  }
  float one = 0;
  std::memcpy(&one, file.weight_bytes(1).data() + 31 * 4, 4);
  CHECK(one == 1.0f);
  for (size_t i = 0; i < 3; ++i)
    CHECK(reinterpret_cast<uintptr_t>(file.weight_bytes(i).data()) % kTensorAlignment == 0);
  for (const auto& segment : model.segments) CHECK(segment->offset % kPageBytes == 0);
  uint64_t done = 0, total = 0;
  CHECK(file.verify_checksums([&](uint64_t d, uint64_t t) {
    done = d, total = t;
    return true;
  }));
  CHECK(done == total);
  CHECK(total == file.segment_bytes(0).size() + file.segment_bytes(1).size());
  const auto stopped = file.verify_checksums([](uint64_t, uint64_t) { return false; });
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == ErrorCode::kCancelled);

  file.prefetch_segment(0);
  const uint64_t before = read_everything(file);
  file.drop_segment(0);
  CHECK(read_everything(file) == before);
}

TEST_CASE("the file in memory is the file on the disk, and its id follows its content") {
  const auto bytes = sample_bytes();
  REQUIRE(!bytes.empty());
  const TempFolder folder;
  write_file(folder / "a.lnt", bytes);
  const auto disk = ModelFile::open(folder / "a.lnt");
  // A start that is not aligned: the copy must be.
  std::vector<std::byte> shifted(bytes.size() + 1);
  std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
  const auto memory = ModelFile::from_memory(std::span(shifted).subspan(1));
  REQUIRE(disk);
  REQUIRE(memory);
  CHECK(disk->model_id() == memory->model_id());
  CHECK(disk->file_bytes() == bytes.size());
  CHECK(read_everything(*disk) == read_everything(*memory));

  // One weight differs: the checksum in the head differs, so the id does.
  auto writer = ModelWriter::create(folder / "b.lnt");
  REQUIRE(writer);
  REQUIRE(writer->begin_weight("w", DType::kF32, fb::Layout::RowMajor, {1}));
  const float one = 1;
  REQUIRE(writer->write(std::as_bytes(std::span(&one, 1))));
  REQUIRE(writer->end_weight());
  REQUIRE(writer->finish({}));
  auto changed = read_file(folder / "b.lnt");
  const auto first = ModelFile::from_memory(changed);
  REQUIRE(first);
  writer = ModelWriter::create(folder / "b.lnt");
  const float two = 2;
  REQUIRE(writer->begin_weight("w", DType::kF32, fb::Layout::RowMajor, {1}));
  REQUIRE(writer->write(std::as_bytes(std::span(&two, 1))));
  REQUIRE(writer->end_weight());
  REQUIRE(writer->finish({}));
  const auto second = ModelFile::open(folder / "b.lnt");
  REQUIRE(second);
  CHECK(first->model_id() != second->model_id());
}

TEST_CASE("files that are not ours, or not whole, say which") {
  const auto bytes = sample_bytes();
  REQUIRE(bytes.size() > kPageBytes);
  const auto with = [&](size_t at, std::vector<uint8_t> replacement) {
    auto copy = bytes;
    std::memcpy(copy.data() + at, replacement.data(), replacement.size());
    return open_error(copy);
  };
  CHECK(contains(with(0, {'G', 'G', 'U', 'F'}), "GGUF"));
  CHECK(contains(with(0, {0x10, 0, 0, 0, 0, 0, 0, 0, '{', '"'}), "safetensors"));
  CHECK(contains(with(0, {'P', 'K', 3, 4}), "not a Linnet model"));
  CHECK(contains(with(4, {'\n', 0x1A, '\n', 1}), "changed in transfer"));
  CHECK(contains(with(8, {2, 0, 0, 0}), "format version 2, and this Linnet reads up to 1"));
  CHECK(contains(with(8, {0, 0, 0, 0}), "format version 0"));
  CHECK(contains(with(12, {1, 2, 3, 4}), "other byte order"));
  CHECK(contains(with(12, {9, 9, 9, 9}), "byte order tag"));
  CHECK(contains(with(40, {1, 2, 3}), "checksum differs"));
  CHECK(contains(with(50, {1}), "byte 50 is not zero"));
  CHECK(contains(with(24, {1}), "the header is damaged (head of"));
  CHECK(contains(with(24, {255, 255, 255, 255, 255, 255, 255, 255}), "the header is damaged"));
  CHECK(contains(open_error({}), "not a Linnet model"));
  CHECK(contains(open_error(std::span(bytes).first(40)), "truncated"));
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK(contains(open_error(longer), "1 bytes more"));

  const TempFolder folder;
  const auto missing = ModelFile::open(folder / "none.lnt");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::kNotFound);
  CHECK(contains(missing.error().message, "none.lnt"));
  CHECK(contains(ModelFile::open(folder / ".").error().message, "a folder"));
  write_file(folder / "empty.lnt", {});
  CHECK(contains(ModelFile::open(folder / "empty.lnt").error().message, "is empty"));
  write_file(folder / "cut.lnt", std::span(bytes).first(bytes.size() / 2));
  const auto cut = ModelFile::open(folder / "cut.lnt");
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code == ErrorCode::kInvalidFile);
  CHECK(contains(cut.error().message, "cut.lnt"));
  CHECK(contains(cut.error().message, "truncated"));
}

TEST_CASE("a file cut anywhere is refused") {
  const auto bytes = sample_bytes();
  for (size_t i = 0; i < 64; ++i) {
    const std::string error = open_error(std::span(bytes).first(bytes.size() * i / 64));
    REQUIRE(contains(error, i == 0 ? "not a Linnet model" : "truncated"));
  }
  for (size_t cut = 1; cut < 64; ++cut)
    REQUIRE(contains(open_error(std::span(bytes).first(bytes.size() - cut)), "truncated"));
}

TEST_CASE("flipped bits are refused or harmless, wherever they are") {
  auto bytes = sample_bytes();
  const auto original = ModelFile::from_memory(bytes);
  REQUIRE(original);
  const FileHeader header = *decode_header(bytes);
  std::mt19937 rng(11);
  const auto flip = [&](size_t first, size_t end) {
    const size_t at = first + rng() % (end - first);
    bytes[at] ^= static_cast<std::byte>(1u << (rng() % 8));
    return at;
  };
  const auto pristine = bytes;
  SUBCASE("in the header and the head: refused") {
    for (int i = 0; i < 3000; ++i) {
      i % 4 == 0 ? flip(0, kFileHeaderBytes) : flip(static_cast<size_t>(header.head_offset), bytes.size());
      REQUIRE_FALSE(ModelFile::from_memory(bytes));
      bytes = pristine;
    }
  }
  SUBCASE("in a segment: found by the checksums") {
    for (int i = 0; i < 300; ++i) {
      const fb::SegmentT& segment = *original->model().segments[static_cast<size_t>(i) % 2];
      flip(static_cast<size_t>(segment.offset), static_cast<size_t>(segment.offset + segment.bytes));
      const auto file = ModelFile::from_memory(bytes);
      REQUIRE(file);
      const auto result = file->verify_checksums();
      REQUIRE_FALSE(result);
      REQUIRE(contains(result.error().message, i % 2 == 0 ? "weight segment 0" : "weight segment 1"));
      bytes = pristine;
    }
  }
  SUBCASE("in the head with its checksum forged: refused with a reason, or a model that is safe to read") {
    size_t opened = 0;
    for (int i = 0; i < 20000; ++i) {
      for (uint64_t flips = 1 + rng() % 3; flips > 0; --flips)
        flip(static_cast<size_t>(header.head_offset), bytes.size());
      repair_header(bytes, header.head_offset);
      const auto file = ModelFile::from_memory(bytes);
      if (file) {
        ++opened;
        read_everything(*file);
      } else {
        REQUIRE(!file.error().message.empty());
      }
      bytes = pristine;
    }
    CHECK(opened > 0);
    CHECK(opened < 20000);
  }
}

TEST_CASE("offsets beyond 4 GiB are read and written") {
  const TempFolder folder;
  constexpr uint64_t kFar = uint64_t{1} << 33;
  const float value = 42;
  SUBCASE("a segment that starts there") {
    auto writer = ModelWriter::create(folder / "far.lnt");
    REQUIRE(writer);
    REQUIRE(write_sample_weights(*writer));
    REQUIRE(writer->begin_segment(kFar));
    REQUIRE(writer->begin_weight("far", DType::kF32, fb::Layout::RowMajor, {1}));
    REQUIRE(writer->write(std::as_bytes(std::span(&value, 1))));
    const auto index = writer->end_weight();
    REQUIRE(index);
    const auto size = writer->finish(sample_structure());
    REQUIRE(size);
    CHECK(*size > kFar);
    struct stat info = {};
    REQUIRE(stat((folder / "far.lnt").c_str(), &info) == 0);
    CHECK(info.st_blocks * 512 < 1 << 20);  // sparse: the test takes no disk
    const auto file = ModelFile::open(folder / "far.lnt");
    REQUIRE(file);
    CHECK(file->model().segments[2]->offset == kFar);
    float read = 0;
    std::memcpy(&read, file->weight_bytes(static_cast<size_t>(*index)).data(), 4);
    CHECK(read == value);
    CHECK(file->verify_checksums());
  }
  SUBCASE("a tensor that is larger than that") {
    constexpr uint64_t kElements = 5ull << 28;  // 5 GiB of f32
    fb::ModelT model;
    model.segments.push_back(std::make_unique<fb::SegmentT>());
    model.segments[0]->offset = kPageBytes;
    model.segments[0]->bytes = kElements * 4;
    auto weight = named<fb::WeightT>("large");
    weight->shape = {5, int64_t{1} << 28};
    weight->bytes = kElements * 4;
    model.weights.push_back(std::move(weight));
    const auto head = encode_head(model);
    REQUIRE(head);
    FileHeader header;
    header.head_offset = kPageBytes + kElements * 4 + kOverRead;
    header.head_bytes = head->size();
    header.file_bytes = header.head_offset + header.head_bytes;
    header.head_checksum = checksum(*head);
    const auto encoded = encode_header(header);
    const UniqueFd fd(open((folder / "large.lnt").c_str(), O_CREAT | O_RDWR, 0600));
    REQUIRE(fd);
    REQUIRE(pwrite(fd.get(), encoded.data(), encoded.size(), 0) == 64);
    REQUIRE(pwrite(fd.get(), head->data(), head->size(), static_cast<off_t>(header.head_offset)) ==
            static_cast<ssize_t>(head->size()));
    REQUIRE(pwrite(fd.get(), &value, 4, static_cast<off_t>(kPageBytes + kElements * 4 - 4)) == 4);
    const auto file = ModelFile::open(folder / "large.lnt");
    REQUIRE_MESSAGE(file, (file ? "" : file.error().message));
    const auto bytes = file->weight_bytes(0);
    REQUIRE(bytes.size() == kElements * 4);
    float read = 0;
    std::memcpy(&read, bytes.data() + bytes.size() - 4, 4);
    CHECK(read == value);
    std::memcpy(&read, bytes.data() + bytes.size() / 2, 4);
    CHECK(read == 0);
  }
}
