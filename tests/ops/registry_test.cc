// Backends by name, whether this build has each of them or not.
#include "backends/registry/registry.h"

#include <doctest/doctest.h>

#include "tests/ops/tested_backends.h"

using namespace linnet;

namespace {

std::string refusal(std::string_view name, const BackendOptions& options, ErrorCode code) {
  const auto backend = open_backend(name, options);
  REQUIRE_FALSE(backend.has_value());
  CHECK(backend.error().code == code);
  return backend.error().message;
}

}  // namespace

TEST_CASE("every backend is found by its name, and one of them is the truth") {
  int truths = 0;
  for (const BackendFactory* factory : backends()) {
    CAPTURE(factory->name);
    CHECK(backend_named(factory->name) == factory);
    CHECK_FALSE(factory->description.empty());
    truths += factory->kind == BackendKind::kTruth;
  }
  CHECK(truths == 1);
  CHECK(backend_named("abacus") == nullptr);
}

TEST_CASE("a backend that is none, and a device where there are none, are refused by name") {
  const std::string unknown = refusal("abacus", {}, ErrorCode::kInvalidArgument);
  CHECK(unknown.find("'abacus'") != std::string::npos);
  for (const BackendFactory* factory : backends()) CHECK(unknown.find(factory->name) != std::string::npos);
  BackendOptions options;
  options.device = "0";
  for (const BackendFactory* factory : backends())
    if (factory->kind != BackendKind::kDevice)
      CHECK(refusal(factory->name, options, ErrorCode::kInvalidArgument).find("vulkan") != std::string::npos);
}

TEST_CASE("what has no device of its own measures none, and keeps states in every type") {
  for (const Backend* backend : testing::host_backends()) {
    CHECK(backend->meter() == nullptr);
    for (const DType dtype : kStateTypes) CHECK(backend->keeps_states_in(dtype));
  }
}

TEST_CASE("a GPU that is not to be had says why and what to do") {
  BackendOptions options;
  options.device = "no such device";
  const auto backend = open_backend("vulkan", options);
  REQUIRE_FALSE(backend.has_value());
  const std::string& why = backend.error().message;
  CAPTURE(why);
  // Where this machine has GPUs the name is what is wrong, elsewhere the backend.
  if (why.find("no such device") != std::string::npos) {
    CHECK(backend.error().code == ErrorCode::kNotFound);
  } else {
    CHECK(backend.error().code == ErrorCode::kUnsupported);
    CHECK((why.find("not built into this linnet") != std::string::npos ||
           why.find("Vulkan") != std::string::npos));
  }
}
