// As cmake/precompiled.h, for the tests.
#pragma once

#include <doctest/doctest.h>

#include "../cmake/precompiled.h"
