// The part of a statefile that is written for people and h5 tools; no restart reads it.
#pragma once

#include "common/error.h"
#include "criu-glue/statefile/hdf5.h"
#include "criu-glue/statefile/record.h"

namespace stillpoint::statefile {

Result<> write_description(hid_t file, const Manifest& about, const ContainerRecord& record);

}  // namespace stillpoint::statefile
