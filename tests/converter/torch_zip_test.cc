#include "converter/readers/torch_zip.h"

#include <doctest/doctest.h>

#include "converter/readers/pickle.h"
#include "converter/readers/safetensors.h"
#include "converter/readers/weights_folder.h"
#include "tests/compare.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::convert;
using namespace linnet::testing;

namespace {

std::string torch_file(const std::string& name) { return golden("torch/" + name); }

// A file with one change of its bytes.
std::string replaced(std::string file, std::string_view from, std::string_view to) {
  const size_t at = file.find(from);
  REQUIRE(at != std::string::npos);
  REQUIRE(from.size() == to.size());
  return file.replace(at, from.size(), to);
}

std::string refusal(const std::string& file) { return message(parse_torch(as_bytes(file), "x.pth")); }

}  // namespace

TEST_CASE("torch files of every shape read as torch reads them") {
  Checkpoint expected;
  REQUIRE(read_safetensors(torch_file("expected.safetensors"), expected));
  for (const char* name : {"state_dict.pth", "lightning.ckpt", "mmengine.pth"}) {
    CAPTURE(name);
    Checkpoint checkpoint;
    REQUIRE(read_torch(torch_file(name), checkpoint));
    for (const auto& [tensor, want] : expected.tensors()) {
      CAPTURE(tensor);
      // Frameworks put their own word before a name.
      const TensorInfo* found = nullptr;
      for (const auto& [own, info] : checkpoint.tensors())
        if (own == tensor || own.ends_with("." + tensor)) found = &info;
      REQUIRE(found);
      CHECK(found->shape == want.shape);
      CHECK(values(checkpoint, *found) == values(expected, want));
    }
  }
}

TEST_CASE("a folder with pytorch_model.bin reads like one with safetensors, shards too") {
  const TempFolder folder;
  folder.write("pytorch_model.bin", read_file(torch_file("state_dict.pth")));
  Checkpoint single;
  REQUIRE(read_weights_folder(folder.path(), "model", single));
  CHECK(single.find("a_transposed"));
  const TempFolder shards;
  shards.write("part.bin", read_file(torch_file("state_dict.pth")));
  shards.write("pytorch_model.bin.index.json", R"({"weight_map":{"a":"part.bin","half":"part.bin"}})");
  Checkpoint sharded;
  REQUIRE(read_weights_folder(shards.path(), "model", sharded));
  CHECK(sharded.tensors().size() == single.tensors().size());
}

TEST_CASE("torch files that cannot be read are refused by name") {
  const std::string whole = read_file(torch_file("state_dict.pth"));
  CHECK(contains(refusal(read_file(torch_file("legacy_tar_form.pt"))), "before torch 1.6"));
  CHECK(contains(refusal("version https://git-lfs"), "no file of torch.save"));
  CHECK(contains(refusal(replaced(whole, "little", "big   ")), "big-endian"));
  CHECK(contains(refusal(replaced(whole, "FloatStorage", "QInt8Storage")), "'torch QInt8Storage'"));
  CHECK(contains(refusal(replaced(whole, "_rebuild_tensor_v2", "_rebuild_tensor_v9")), "no tensors by name"));
  // A function is never called: what it would have made is missing.
  CHECK(contains(
      refusal(replaced(whole, "torch._utils\n_rebuild_tensor_v2", "os\nsystem" + std::string(22, '_'))),
      "no tensors by name"));
}

TEST_CASE("no truncation and no changed byte of a torch file is more than an error") {
  const std::string whole = read_file(torch_file("mmengine.pth"));
  for (size_t length = 0; length < whole.size(); ++length)
    CHECK_FALSE(parse_torch(as_bytes(std::string_view(whole).substr(0, length)), "x"));
  size_t opened = 0;
  for (size_t at = 0; at < whole.size(); ++at)
    for (const char byte : {char{0}, char{127}, char{-1}, char{40}}) {
      std::string changed = whole;
      changed[at] = byte;
      const auto tensors = parse_torch(as_bytes(changed), "x");
      if (!tensors) {
        CHECK_FALSE(tensors.error().message.empty());
        continue;
      }
      ++opened;
      for (const TensorInfo& t : *tensors)
        CHECK((t.bytes.empty() || (reinterpret_cast<const char*>(t.bytes.data()) >= changed.data() &&
                                   reinterpret_cast<const char*>(t.bytes.data() + t.bytes.size()) <=
                                       changed.data() + changed.size())));
    }
  CHECK(opened > 1000);  // numbers of tensors and names may change
}

// A program of a few bytes must not build what memory cannot hold.
TEST_CASE("pickles that grow by repeating themselves are refused") {
  const auto refused = [](const std::string& program) {
    return message(read_pickle(as_bytes(program), "x.pth"));
  };
  std::string doubled = "X\x04";
  doubled += std::string(3, '\0') + "name";
  for (int i = 0; i < 40; ++i) doubled += "2\x93";  // DUP, STACK_GLOBAL: a class named by a class
  CHECK(refused(doubled + ".").find("named by what is no text") != std::string::npos);

  std::string lists = "ccollections\nOrderedDict\nq";
  lists += '\0';
  lists += "](NN\x86";
  for (int i = 0; i < 200; ++i) lists += '2';  // a list of 200 pairs
  lists += "e\x85q\x01";
  for (int i = 0; i < 100; ++i) {
    lists += 'h';
    lists += '\0';
    lists += "h\x01R";
  }
  CHECK(refused(lists + ".").find("again and again") != std::string::npos);
}
