#include "launcher/supervisor/pmix_info.h"

#include <pmix.h>

#include <utility>

namespace stillpoint::supervisor {

Result<> check_pmix(pmix_status_t status, std::string_view what) {
  if (status == PMIX_SUCCESS || status == PMIX_OPERATION_SUCCEEDED) return {};
  return fail(ErrorKind::kInternal, std::string(what) + ": " + PMIx_Error_string(status));
}

InfoArray::InfoArray(InfoArray&& other) noexcept : array_(std::exchange(other.array_, {})) {}

InfoArray::~InfoArray() {
  if (array_.array) PMIx_Info_free(data(), size());
}

InfoList::InfoList() : list_(PMIx_Info_list_start()) {}

InfoList::~InfoList() {
  PMIx_Info_list_release(list_);
}

InfoList& InfoList::text(const char* key, const std::string& value) {
  return add(key, value.c_str(), PMIX_STRING);
}
InfoList& InfoList::regex(const char* key, const char* value) {
  return add(key, value, PMIX_REGEX);
}
InfoList& InfoList::u32(const char* key, uint32_t value) {
  return add(key, &value, PMIX_UINT32);
}
InfoList& InfoList::u16(const char* key, uint16_t value) {
  return add(key, &value, PMIX_UINT16);
}
InfoList& InfoList::flag(const char* key, bool value) {
  return add(key, &value, PMIX_BOOL);
}
InfoList& InfoList::rank(const char* key, pmix_rank_t value) {
  return add(key, &value, PMIX_PROC_RANK);
}
InfoList& InfoList::size(const char* key, size_t value) {
  return add(key, &value, PMIX_SIZE);
}

InfoList& InfoList::bytes(const char* key, const std::string& value) {
  const pmix_byte_object_t object{const_cast<char*>(value.data()), value.size()};
  return add(key, &object, PMIX_BYTE_OBJECT);
}

InfoList& InfoList::array(const char* key, const pmix_data_array_t* value) {
  return add(key, value, PMIX_DATA_ARRAY);
}

InfoList& InfoList::list(const char* key, const InfoList& value) {
  auto converted = value.finish();
  if (converted) return array(key, converted->raw());
  if (status_ == PMIX_SUCCESS) status_ = PMIX_ERR_BAD_PARAM;
  return *this;
}

InfoList& InfoList::add(const char* key, const void* value, pmix_data_type_t type) {
  const pmix_status_t status = PMIx_Info_list_add(list_, key, value, type);
  if (status_ == PMIX_SUCCESS) status_ = status;
  return *this;
}

Result<InfoArray> InfoList::finish() const {
  if (auto r = check_pmix(status_, "PMIx_Info_list_add"); !r) return fail(r.error());
  pmix_data_array_t array{};
  const pmix_status_t status = PMIx_Info_list_convert(list_, &array);
  if (auto r = check_pmix(status, "PMIx_Info_list_convert"); !r) return fail(r.error());
  return InfoArray(array);
}

namespace {

class DataBuffer {
 public:
  DataBuffer() { PMIx_Data_buffer_construct(&raw_); }
  ~DataBuffer() { PMIx_Data_buffer_destruct(&raw_); }
  DataBuffer(const DataBuffer&) = delete;
  DataBuffer& operator=(const DataBuffer&) = delete;
  pmix_data_buffer_t* raw() { return &raw_; }
  std::string bytes() const { return {raw_.base_ptr, raw_.bytes_used}; }

  // Copies the bytes into the buffer.
  Result<> fill(const std::string& bytes) {
    const pmix_byte_object_t payload{const_cast<char*>(bytes.data()), bytes.size()};
    return check_pmix(PMIx_Data_embed(&raw_, &payload), "PMIx_Data_embed");
  }
  Result<> pack(const void* source, size_t count, pmix_data_type_t type) {
    return check_pmix(PMIx_Data_pack(nullptr, &raw_, const_cast<void*>(source),
                                     static_cast<int32_t>(count), type),
                      "PMIx_Data_pack");
  }
  Result<> unpack(void* target, size_t count, pmix_data_type_t type) {
    auto number = static_cast<int32_t>(count);
    return check_pmix(PMIx_Data_unpack(nullptr, &raw_, target, &number, type), "PMIx_Data_unpack");
  }

 private:
  pmix_data_buffer_t raw_;
};

}  // namespace

Result<std::string> pack_value(const pmix_value_t& value) {
  DataBuffer buffer;
  if (auto r = buffer.pack(&value, 1, PMIX_VALUE); !r) return fail(r.error());
  return buffer.bytes();
}

Result<> unpack_value(const std::string& bytes, pmix_value_t& value) {
  DataBuffer buffer;
  if (auto r = buffer.fill(bytes); !r) return r;
  return buffer.unpack(&value, 1, PMIX_VALUE);
}

Result<std::string> pack_infos(const pmix_info_t* infos, size_t count) {
  DataBuffer buffer;
  auto r = buffer.pack(&count, 1, PMIX_SIZE);
  if (r && count > 0) r = buffer.pack(infos, count, PMIX_INFO);
  if (!r) return fail(r.error());
  return buffer.bytes();
}

Result<InfoArray> unpack_infos(const std::string& bytes) {
  DataBuffer buffer;
  size_t count = 0;
  auto r = buffer.fill(bytes);
  if (r) r = buffer.unpack(&count, 1, PMIX_SIZE);
  if (!r) return fail(r.error());
  if (count > kMostInfos) return fail(ErrorKind::kProtocol, "an array of too many infos");
  if (count == 0) return InfoArray();
  InfoArray infos({PMIX_INFO, count, PMIx_Info_create(count)});
  if (r = buffer.unpack(infos.data(), count, PMIX_INFO); !r) return fail(r.error());
  return infos;
}

}  // namespace stillpoint::supervisor
