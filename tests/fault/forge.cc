// forge MANIFEST CHANGE VALUE: changes one thing in a checkpoint's manifest and signs it again with
// this site's key: what a genuine checkpoint from elsewhere, or from a later version, would look
// like.
//   format N | cpu-flag NAME (one more that it needs) | machine NAME | mount PATH (one more) | uid
//   N | key HEX (signed with that key instead)
#include <fcntl.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>

#include "common/fd.h"
#include "common/paths.h"
#include "criu-glue/statefile/manifest.h"
#include "criu-glue/statefile/names.h"

using namespace stillpoint;
using statefile::Manifest;

namespace {

using Change = std::function<void(Manifest&, const std::string&)>;

const std::map<std::string, Change> kChanges = {
    {"format", [](Manifest&, const std::string&) {}},
    {"key", [](Manifest&, const std::string&) {}},
    {"cpu-flag", [](Manifest& m, const std::string& name) { m.cpu.flags.push_back(name); }},
    {"machine", [](Manifest& m, const std::string& name) { m.machine = name; }},
    {"mount", [](Manifest& m,
                 const std::string& path) { m.containers.at(0).mounts.push_back({path, "nfs4"}); }},
    {"uid", [](Manifest& m,
               const std::string& number) { m.uid = static_cast<uint32_t>(std::stoul(number)); }},
};

// The version stands in clear text in the block in front.
Result<std::string> with_format(std::string bytes, const std::string& version) {
  const std::string now = std::string(statefile::names::kBlockFormat) +
                          std::to_string(statefile::names::kManifestVersion);
  const size_t at = bytes.find(now);
  if (at >= statefile::names::kBlock) return fail(ErrorKind::kDamaged, "no version in the block");
  const size_t line_end = bytes.find('\n', at),
               digits = at + std::string(statefile::names::kBlockFormat).size();
  std::string changed = bytes.substr(0, digits) + version + bytes.substr(line_end);
  // The block keeps its length: what the version has gained goes from the filling at its end.
  const size_t gained = changed.size() - bytes.size();
  return changed.erase(statefile::names::kBlock, gained);
}

Result<> forge(const std::string& path, const std::string& change, const std::string& value) {
  auto bytes = read_file(path);
  if (!bytes) return fail(bytes.error());
  auto manifest = statefile::parse_manifest(*bytes, nullptr);
  if (!manifest) return fail(manifest.error());
  kChanges.at(change)(*manifest, value);
  auto key = statefile::load_signing_key(paths::kSigningKey, false);
  if (!key) return fail(key.error());
  if (change == "key") {
    auto other = statefile::digest_from_hex(value);
    if (!other) return fail(other.error());
    key->bytes = *other;
  }
  auto forged = statefile::manifest_bytes(*manifest, *key);
  if (forged && change == "format") forged = with_format(*forged, value);
  if (!forged) return fail(forged.error());
  auto file = open_file(path, O_WRONLY | O_TRUNC);
  if (!file) return fail(file.error());
  return write_all(file->get(), *forged);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 || !kChanges.contains(argv[2])) {
    std::fprintf(stderr, "usage: forge MANIFEST CHANGE VALUE\n");
    return 2;
  }
  const auto done = forge(argv[1], argv[2], argv[3]);
  if (!done) std::fprintf(stderr, "forge: %s\n", done.error().line().c_str());
  return done ? 0 : 1;
}
