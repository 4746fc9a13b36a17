#include "criu-glue/statefile/tables.h"

#include <cstddef>

#include "criu-glue/statefile/names.h"

namespace stillpoint::statefile {

namespace {

// Rows as they are in memory while they are written.
struct RankRow {
  uint32_t rank;
  int32_t pid;
  const char* program;
  uint64_t memory;
};
struct FileRow {
  const char* path;
  uint64_t size;
  uint8_t writable;
};
struct MountRow {
  const char* destination;
  const char* type;
};

struct Column {
  const char* name;
  size_t offset;
  hid_t type;
};

Id string_type() {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

template <typename Row>
Result<> write_table(hid_t file, const char* name, const std::vector<Row>& rows,
                     std::initializer_list<Column> columns) {
  Id memory(H5Tcreate(H5T_COMPOUND, sizeof(Row)), H5Tclose);
  for (const Column& c : columns) H5Tinsert(memory.get(), c.name, c.offset, c.type);
  Id packed(H5Tcopy(memory.get()), H5Tclose);
  H5Tpack(packed.get());
  const hsize_t extent = rows.size();
  Id space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  Id table(H5Dcreate2(file, name, packed.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
           H5Dclose);
  const bool good = table && (rows.empty() || H5Dwrite(table.get(), memory.get(), H5S_ALL, H5S_ALL,
                                                       H5P_DEFAULT, rows.data()) >= 0);
  if (!good) return fail(hdf5_error(ErrorKind::kInternal, std::string("table ") + name));
  return {};
}

Result<> write_tables(hid_t file, const ContainerRecord& record) {
  const Id text = string_type();
  std::vector<RankRow> ranks;
  for (const auto& r : record.ranks) ranks.push_back({r.rank, r.pid, r.program.c_str(), r.memory});
  std::vector<FileRow> files;
  for (const auto& f : record.files) files.push_back({f.path.c_str(), f.size, f.writable});
  std::vector<MountRow> mounts;
  for (const auto& m : record.mounts) mounts.push_back({m.destination.c_str(), m.type.c_str()});

  if (auto r = write_table(file, names::kRanks, ranks,
                           {{"rank", offsetof(RankRow, rank), H5T_NATIVE_UINT32},
                            {"pid", offsetof(RankRow, pid), H5T_NATIVE_INT32},
                            {"program", offsetof(RankRow, program), text.get()},
                            {"memory", offsetof(RankRow, memory), H5T_NATIVE_UINT64}});
      !r)
    return r;
  if (auto r = write_table(file, names::kFiles, files,
                           {{"path", offsetof(FileRow, path), text.get()},
                            {"size", offsetof(FileRow, size), H5T_NATIVE_UINT64},
                            {"writable", offsetof(FileRow, writable), H5T_NATIVE_UINT8}});
      !r)
    return r;
  return write_table(file, names::kMounts, mounts,
                     {{"destination", offsetof(MountRow, destination), text.get()},
                      {"type", offsetof(MountRow, type), text.get()}});
}

}  // namespace

Result<> write_description(hid_t file, const Manifest& about, const ContainerRecord& record) {
  const std::pair<const char*, std::string_view> texts[] = {
      {names::kFormat, names::kStatefileFormat},
      {"job", about.job},
      {"run", about.run},
      {"created", about.created},
      {"user", about.user},
      {"hostname", record.hostname},
      {"network", record.network_key},
      {"stillpoint_version", about.stillpoint_version},
      {"criu_version", about.criu_version},
      {"pmix_version", about.pmix_version},
      {"kernel", about.kernel},
      {"machine", about.machine},
  };
  const std::pair<const char*, uint64_t> numbers[] = {
      {names::kFormatVersion, names::kStatefileVersion},
      {"step", about.step},
      {"epoch", about.epoch},
      {"container", record.index},
      {"ranks", about.ranks},
      {"uid", about.uid},
  };
  for (const auto& [name, text] : texts)
    if (auto r = put_attribute(file, name, text); !r) return r;
  for (const auto& [name, number] : numbers)
    if (auto r = put_attribute(file, name, number); !r) return r;
  return write_tables(file, record);
}

}  // namespace stillpoint::statefile
