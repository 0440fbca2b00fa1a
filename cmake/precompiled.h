// What most files include, for a build with LINNET_TOGETHER. A file names what it needs itself all the
// same.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <expected>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "format/model_generated.h"
