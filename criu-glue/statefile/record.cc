// The record as JSON.  Whatever does not fit throws inside this file and becomes an error at its
// border.
#include "criu-glue/statefile/record.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "common/paths.h"
#include "criu-glue/statefile/names.h"
#include "criu-glue/statefile/text.h"

namespace stillpoint::statefile {

namespace {

using Json = nlohmann::ordered_json;

struct Bad {
  std::string what;
};

// Strings of the system are bytes; JSON's are Unicode.  What is not UTF-8 becomes {"hex": "..."}.
Json text_json(const std::string& text) {
  if (is_utf8(text)) return text;
  Json object = Json::object();
  object["hex"] = bytes_to_hex(text);
  return object;
}

Json texts_json(const std::vector<std::string>& texts) {
  Json list = Json::array();
  for (const auto& text : texts) list.push_back(text_json(text));
  return list;
}

template <typename T, typename F>
Json list_json(const std::vector<T>& items, F one) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(one(item));
  return list;
}

Json image_json(const ImageRecord& r) {
  return {{"name", text_json(r.name)}, {"size", r.size}, {"digest", to_hex(r.digest)}};
}
Json rank_json(const RankRecord& r) {
  return {
      {"rank", r.rank}, {"pid", r.pid}, {"program", text_json(r.program)}, {"memory", r.memory}};
}
Json file_json(const FileRecord& r) {
  return {{"path", text_json(r.path)}, {"size", r.size}, {"writable", r.writable}};
}
Json mount_json(const MountRecord& r) {
  return {{"destination", text_json(r.destination)}, {"type", text_json(r.type)}};
}

Json container_json(const ContainerRecord& c) {
  return {{"index", c.index},
          {"hostname", text_json(c.hostname)},
          {"network_key", text_json(c.network_key)},
          {"statefile", text_json(c.statefile)},
          {"statefile_size", c.statefile_size},
          {"statefile_digest", to_hex(c.statefile_digest)},
          {"images", list_json(c.images, image_json)},
          {"ranks", list_json(c.ranks, rank_json)},
          {"files", list_json(c.files, file_json)},
          {"mounts", list_json(c.mounts, mount_json)},
          {"in_flight",
           {{"connections", c.in_flight.connections},
            {"bytes", c.in_flight.bytes},
            {"closed_windows", c.in_flight.closed_windows}}}};
}

// The fields of one JSON object.  `where` says which, for messages: "containers[0].images[3]".
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object())
      throw Bad{(where_.empty() ? "the record" : where_) + " is not an object"};
  }

  template <typename T>
  void number(const char* name, T& out, uint64_t most = names::kMaxNumber) const {
    most = std::min<uint64_t>(most, static_cast<uint64_t>(std::numeric_limits<T>::max()));
    const Json& value = get(name);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > most)
      throw Bad{at(name) + " is not a whole number from 0 to " + std::to_string(most)};
    out = static_cast<T>(value.get<uint64_t>());
  }
  void bytes(const char* name, uint64_t& out) const { number(name, out, names::kMaxBytes); }
  void flag(const char* name, bool& out) const {
    const Json& value = get(name);
    if (!value.is_boolean()) throw Bad{at(name) + " is neither true nor false"};
    out = value.get<bool>();
  }
  void text(const char* name, std::string& out) const { out = text_of(get(name), at(name)); }
  void digest(const char* name, Digest& out) const {
    const Json& value = get(name);
    auto digest = digest_from_hex(value.is_string() ? value.get_ref<const std::string&>() : "");
    if (!digest) throw Bad{at(name) + " is " + digest.error().what()};
    out = *digest;
  }
  void texts(const char* name, std::vector<std::string>& out) const {
    list(name, names::kMaxEntries,
         [&](const Json& value, std::string where) { out.push_back(text_of(value, where)); });
  }
  template <typename F>
  void list(const char* name, size_t most, F one) const {
    const Json& value = get(name);
    if (!value.is_array() || value.size() > most)
      throw Bad{at(name) + " is not a list of at most " + std::to_string(most)};
    size_t index = 0;
    for (const Json& item : value) one(item, at(name) + "[" + std::to_string(index++) + "]");
  }
  Fields object(const char* name) const { return Fields(get(name), at(name)); }
  void require(bool good, const char* name, const char* what) const {
    if (!good) throw Bad{at(name) + " " + what};
  }

 private:
  const Json& get(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) throw Bad{at(name) + " is missing"};
    return *found;
  }
  std::string at(const char* name) const { return where_.empty() ? name : where_ + "." + name; }
  static std::string text_of(const Json& value, const std::string& where) {
    std::optional<std::string> text;
    if (value.is_string()) text = value.get<std::string>();
    if (value.is_object() && value.size() == 1 && value.contains("hex") && value["hex"].is_string())
      text = bytes_from_hex(value["hex"].get_ref<const std::string&>());
    if (!text || text->size() > names::kMaxText || text->find('\0') != text->npos)
      throw Bad{where + " is not a string of at most " + std::to_string(names::kMaxText) +
                " bytes"};
    return *text;
  }

  const Json& object_;
  std::string where_;
};

ImageRecord image_of(const Fields& f) {
  ImageRecord r;
  f.text("name", r.name);
  f.require(is_image_name(r.name), "name", "cannot be the name of an image");
  f.bytes("size", r.size);
  f.digest("digest", r.digest);
  return r;
}
RankRecord rank_of(const Fields& f) {
  RankRecord r;
  f.number("rank", r.rank);
  f.number("pid", r.pid);
  f.text("program", r.program);
  f.bytes("memory", r.memory);
  return r;
}
FileRecord file_of(const Fields& f) {
  FileRecord r;
  f.text("path", r.path);
  f.require(is_plain_path(r.path), "path", "is not an absolute path without '..'");
  f.bytes("size", r.size);
  f.flag("writable", r.writable);
  return r;
}
MountRecord mount_of(const Fields& f) {
  MountRecord r;
  f.text("destination", r.destination);
  f.require(is_plain_path(r.destination), "destination", "is not an absolute path without '..'");
  f.text("type", r.type);
  return r;
}

template <typename T>
void read_list(const Fields& f, const char* name, std::vector<T>& out, T (*one)(const Fields&)) {
  f.list(name, names::kMaxEntries, [&](const Json& item, std::string where) {
    out.push_back(one(Fields(item, std::move(where))));
  });
}

ContainerRecord container_of(const Fields& f) {
  ContainerRecord c;
  f.number("index", c.index, names::kMaxContainers - 1);
  f.text("hostname", c.hostname);
  f.text("network_key", c.network_key);
  f.text("statefile", c.statefile);
  f.require(c.statefile == paths::statefile(c.index), "statefile",
            "is not the file of this container");
  f.bytes("statefile_size", c.statefile_size);
  f.digest("statefile_digest", c.statefile_digest);
  read_list(f, "images", c.images, image_of);
  read_list(f, "ranks", c.ranks, rank_of);
  read_list(f, "files", c.files, file_of);
  read_list(f, "mounts", c.mounts, mount_of);
  const Fields in_flight = f.object("in_flight");
  in_flight.number("connections", c.in_flight.connections);
  in_flight.number("bytes", c.in_flight.bytes);
  in_flight.number("closed_windows", c.in_flight.closed_windows);
  std::set<std::string_view> names;
  for (const auto& image : c.images)
    f.require(names.insert(image.name).second, "images", "has two images of the same name");
  return c;
}

void read_versions(const Fields& f, Manifest& m) {
  f.text("stillpoint_version", m.stillpoint_version);
  f.text("criu_version", m.criu_version);
  f.text("kernel", m.kernel);
  f.text("machine", m.machine);
  f.text("pmix_version", m.pmix_version);
  const Fields cpu = f.object("cpu");
  cpu.text("model", m.cpu.model);
  cpu.texts("flags", m.cpu.flags);
  const Fields times = f.object("times");
  times.number("freeze", m.times.freeze);
  times.number("dump", m.times.dump);
  times.number("thaw", m.times.thaw);
  times.number("pack", m.times.pack);
  times.number("verify", m.times.verify);
}

void read_containers(const Fields& f, Manifest& m) {
  f.list("containers", names::kMaxContainers, [&](const Json& item, std::string where) {
    const Fields fields(item, std::move(where));
    ContainerRecord c = container_of(fields);
    fields.require(c.index == m.containers.size(), "index", "is not its place in the list");
    m.containers.push_back(std::move(c));
  });
  f.require(!m.containers.empty(), "containers", "is empty");
  std::set<uint32_t> seen;
  for (const auto& c : m.containers)
    for (const auto& r : c.ranks)
      f.require(r.rank < m.ranks && seen.insert(r.rank).second, "containers",
                "has a rank twice or one that the job does not have");
}

Manifest facts_of(const Fields& f) {
  Manifest m;
  f.text("job", m.job);
  f.require(paths::check_job_name(m.job).has_value(), "job", "cannot be the name of a job");
  f.number("step", m.step);
  f.text("run", m.run);
  f.number("epoch", m.epoch);
  f.text("created", m.created);
  f.number("uid", m.uid);
  f.text("user", m.user);
  f.texts("argv", m.argv);
  f.text("directory", m.directory);
  f.number("ranks", m.ranks);
  f.number("interval_ms", m.interval_ms);
  f.number("keep", m.keep);
  f.number("restarted_from", m.restarted_from);
  f.number("stdout_bytes", m.stdout_bytes);
  f.number("stderr_bytes", m.stderr_bytes);
  f.flag("tag_output", m.tag_output);
  read_versions(f, m);
  return m;
}

Manifest manifest_of(const Fields& f) {
  Manifest m = facts_of(f);
  f.require(m.epoch > 0, "epoch", "is 0");
  read_containers(f, m);
  return m;
}

// The deepest value of a record is five levels down; the parser would take millions, and their
// memory.  (Its callback could count as well, but makes long lists take quadratic time.)
bool is_shallow(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') ++i;  // and what it escapes
    if (c == '"') in_string = !in_string;
    if (in_string) continue;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > 8) return false;
  }
  return true;
}

template <typename T>
Result<T> parse(std::string_view text, T (*read)(const Fields&)) {
  std::string why;
  try {
    if (text.size() > names::kMaxManifest) throw Bad{"it is too large"};
    if (!is_shallow(text)) throw Bad{"it is nested too deeply"};
    const Json json = Json::parse(text);
    return read(Fields(json, ""));
  } catch (const Bad& bad) {
    why = bad.what;
  } catch (const std::exception& e) {
    why = e.what();
  }
  return fail(ErrorKind::kDamaged, "not a checkpoint's record: " + why);
}

}  // namespace

bool is_image_name(std::string_view name) {
  bool good = !name.empty() && name.size() <= 255 && name != "." && name != "..";
  for (char c : name) good = good && c > ' ' && c < 0x7f && c != '/';
  return good;
}

std::string to_json(const ContainerRecord& container) {
  return container_json(container).dump();
}

std::string to_json(const Manifest& m) {
  const Json json = {
      {"job", text_json(m.job)},
      {"step", m.step},
      {"run", text_json(m.run)},
      {"epoch", m.epoch},
      {"created", text_json(m.created)},
      {"uid", m.uid},
      {"user", text_json(m.user)},
      {"argv", texts_json(m.argv)},
      {"directory", text_json(m.directory)},
      {"ranks", m.ranks},
      {"interval_ms", m.interval_ms},
      {"keep", m.keep},
      {"restarted_from", m.restarted_from},
      {"stdout_bytes", m.stdout_bytes},
      {"stderr_bytes", m.stderr_bytes},
      {"tag_output", m.tag_output},
      {"stillpoint_version", text_json(m.stillpoint_version)},
      {"criu_version", text_json(m.criu_version)},
      {"kernel", text_json(m.kernel)},
      {"machine", text_json(m.machine)},
      {"pmix_version", text_json(m.pmix_version)},
      {"cpu", {{"model", text_json(m.cpu.model)}, {"flags", texts_json(m.cpu.flags)}}},
      {"times",
       {{"freeze", m.times.freeze},
        {"dump", m.times.dump},
        {"thaw", m.times.thaw},
        {"pack", m.times.pack},
        {"verify", m.times.verify}}},
      {"containers", list_json(m.containers, container_json)},
  };
  return json.dump(1) + "\n";
}

Result<Manifest> manifest_from_json(std::string_view text) {
  return parse(text, manifest_of);
}

Result<Manifest> facts_from_json(std::string_view text) {
  return parse(text, facts_of);
}

Result<ContainerRecord> container_from_json(std::string_view text) {
  return parse(text, container_of);
}

}  // namespace stillpoint::statefile
