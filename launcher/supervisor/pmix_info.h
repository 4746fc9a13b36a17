// PMIx's C structures owned by C++ objects: nothing leaks, and errors are ours.
#pragma once

#include <pmix_common.h>

#include <cstdint>
#include <string>

#include "common/error.h"

namespace stillpoint::supervisor {

// What a PMIx call returned, as an error: "<what>: <PMIx's name of it>".
Result<> check_pmix(pmix_status_t status, std::string_view what);

// An array of pmix_info_t, owned.
class InfoArray {
 public:
  InfoArray() = default;
  explicit InfoArray(pmix_data_array_t array) : array_(array) {}
  InfoArray(InfoArray&& other) noexcept;
  InfoArray& operator=(InfoArray&&) = delete;
  ~InfoArray();

  pmix_info_t* data() const { return static_cast<pmix_info_t*>(array_.array); }
  size_t size() const { return array_.size; }
  const pmix_data_array_t* raw() const { return &array_; }

 private:
  pmix_data_array_t array_{};
};

// Builds one.  Values are copied.  The first failure is kept and comes out of finish().
class InfoList {
 public:
  InfoList();
  InfoList(const InfoList&) = delete;
  InfoList& operator=(const InfoList&) = delete;
  ~InfoList();

  InfoList& text(const char* key, const std::string& value);
  InfoList& regex(const char* key, const char* value);  // as PMIx made it: may hold zeros
  InfoList& u32(const char* key, uint32_t value);
  InfoList& u16(const char* key, uint16_t value);
  InfoList& flag(const char* key, bool value);
  InfoList& rank(const char* key, pmix_rank_t value);
  InfoList& size(const char* key, size_t value);
  InfoList& bytes(const char* key, const std::string& value);
  InfoList& array(const char* key, const pmix_data_array_t* value);
  InfoList& list(const char* key, const InfoList& value);

  Result<InfoArray> finish() const;

 private:
  InfoList& add(const char* key, const void* value, pmix_data_type_t type);
  void* list_;
  pmix_status_t status_ = PMIX_SUCCESS;
};

// A value as bytes that PMIx can turn back, so that engines need not know its types.
Result<std::string> pack_value(const pmix_value_t& value);
Result<> unpack_value(const std::string& bytes,
                      pmix_value_t& value);  // into one that is constructed
// The same for an array of infos.
inline constexpr size_t kMostInfos = 1024;
Result<std::string> pack_infos(const pmix_info_t* infos, size_t count);
Result<InfoArray> unpack_infos(const std::string& bytes);

}  // namespace stillpoint::supervisor
