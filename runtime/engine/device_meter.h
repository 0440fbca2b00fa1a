// What a backend on a device of its own counts and measures, for benchmarks and tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

// Totals since the backend was made.
struct DeviceCounts {
  uint64_t runs = 0, submits = 0, dispatches = 0, barriers = 0;
  uint64_t weight_bytes = 0;    // of weights that the dispatches read
  uint64_t read_bytes = 0;      // of outputs that runs gave to the host, and of vectors and values it fetched
  uint64_t written_bytes = 0;   // of values and vectors that the host gave
  uint64_t device_bytes = 0;    // allocated now
  uint64_t imported_bytes = 0;  // of model files, used in place
  uint64_t allocations = 0;     // of memory and objects, ever
  uint64_t recordings = 0;      // of command buffers
};

// Time of a node of the graph on the device, over all runs of its method.
struct DeviceNodeTime {
  std::string method, node, op;
  uint64_t runs = 0;
  double seconds = 0;
};

class DeviceMeter {
 public:
  virtual ~DeviceMeter() = default;
  virtual std::string_view device_name() const = 0;
  virtual DeviceCounts counts() const = 0;
  // In the order of the nodes. Nodes between which no barrier stands overlap, and the time is that of the
  // last of them. Empty unless the backend was opened to measure it, or where the device has no clock.
  virtual std::vector<DeviceNodeTime> profile() const = 0;
};

}  // namespace linnet
