#include "apps/energy.h"

#include <fstream>
#include <optional>
#include <string>
#include <system_error>

namespace linnet::app {
namespace {

std::optional<uint64_t> read_number(const std::filesystem::path& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

}  // namespace

EnergyMeter::EnergyMeter(const std::filesystem::path& root) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
    // "intel-rapl:0" is a package (AMD's too); "intel-rapl:0:0" a part of it that would count twice.
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("intel-rapl:") || name.find(':') != name.rfind(':')) continue;
    const auto counter = read_number(entry.path() / "energy_uj"),
               range = read_number(entry.path() / "max_energy_range_uj");
    if (counter && range) packages_.push_back({entry.path() / "energy_uj", *counter, *range});
  }
}

double EnergyMeter::joules() {
  double total = 0;
  for (Package& package : packages_) {
    const auto now = read_number(package.counter);
    if (!now) continue;
    const uint64_t spent = *now >= package.last ? *now - package.last : *now + (package.range - package.last);
    package.last = *now;
    total += static_cast<double>(spent) * 1e-6;
  }
  return total;
}

}  // namespace linnet::app
