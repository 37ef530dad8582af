// SPDX-License-Identifier: Apache-2.0
// version.h - RECO_VERSION comes from CMake; anything else is a build without it.

#ifndef RECO_TOOLS_VERBS_VERSION_H
#define RECO_TOOLS_VERBS_VERSION_H

#ifndef RECO_VERSION
#error "RECO_VERSION is set by tools/CMakeLists.txt"
#endif

#endif
