// How a backend is opened by people and tests that only know its name: backends/registry lists them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/backend.h"

namespace linnet {

// What backends on a device of their own can be told; the others take none of it.
struct BackendOptions {
  std::string device;         // which one: a number or part of its name; empty: the backend's choice
  std::string compiled_file;  // a file that keeps compiled kernels between runs; empty: none
  bool profile = false;       // measure the time of every node: Backend::meter()->profile()
  // Told while weights are copied to the device: bytes done and in all.
  std::function<void(uint64_t, uint64_t)> progress;
};

enum class BackendKind {
  kTruth,   // defines what ops mean: every other is held to it
  kHost,    // this machine's processor: the same bits on any number of threads
  kDevice,  // memory and limits of its own, and a choice between several
};

struct BackendFactory {
  std::string_view name, description;  // "vulkan", "a GPU"
  BackendKind kind;
  // Errors: kUnsupported for one this build or machine lacks, saying why; what the backend says.
  Result<std::shared_ptr<const Backend>> (*open)(const BackendOptions& options);
  // Every form of a host backend that this machine runs, such as instruction sets, for tests. They live as
  // long as the process. Null: what open() gives is all.
  std::vector<const Backend*> (*forms)();
};

// For backends that live as long as the process.
inline std::shared_ptr<const Backend> borrowed(const Backend& backend) {
  return {std::shared_ptr<const Backend>(), &backend};
}

}  // namespace linnet
