// Energy of the processor packages since some moment, where the system lets this user read it (Linux
// powercap, "RAPL").
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace linnet::app {

class EnergyMeter {
 public:
  // Finds the packages under `root`; the tests give a folder of their own.
  explicit EnergyMeter(const std::filesystem::path& root = "/sys/class/powercap");

  bool available() const { return !packages_.empty(); }
  // Joules since the last call, or since construction. A counter that wrapped once in between is understood.
  double joules();

 private:
  struct Package {
    std::filesystem::path counter;
    uint64_t last = 0, range = 0;  // microjoules
  };
  std::vector<Package> packages_;
};

}  // namespace linnet::app
