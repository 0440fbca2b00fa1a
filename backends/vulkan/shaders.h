// The compiled shaders, embedded by cmake/LinnetVulkan.cmake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace linnet::vulkan {

struct Shader {
  std::string_view name;  // of the .comp file
  const uint32_t* words;
  size_t count;
};
std::span<const Shader> shaders();

}  // namespace linnet::vulkan
