#include "criu-glue/container/mounts.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "common/fd.h"

namespace stillpoint::container {

namespace {

// File systems that hold no data of anybody's.
constexpr std::array kPseudo = std::to_array<std::string_view>({
    "binfmt_misc", "bpf",      "cgroup",   "cgroup2", "configfs",   "debugfs",
    "devpts",      "devtmpfs", "efivarfs", "fusectl", "hugetlbfs",  "mqueue",
    "nfsd",        "nsfs",     "proc",     "pstore",  "rpc_pipefs", "securityfs",
    "selinuxfs",   "smackfs",  "sysfs",    "tracefs",
});
// The container has its own of these.
constexpr std::array kPrivate = std::to_array<std::string_view>({"/dev", "/proc", "/run", "/sys"});

struct Entry {
  int id = 0, parent = 0;
  std::string point, type, options, super_options;
};
using Covers =
    std::map<std::pair<int, std::string>, const Entry*>;  // what lies on a mount at a path

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool octal(char c) {
  return c >= '0' && c <= '7';
}

bool number(std::string_view text, int* value) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return ec == std::errc() && end == text.data() + text.size();
}

// 36 35 98:0 /root /point options optional... - type source super-options
Result<Entry> parse_line(std::string_view line) {
  const auto damaged = [&] {
    return fail(ErrorKind::kDamaged, "not a line of mountinfo: '" + std::string(line) + "'");
  };
  const auto fields = split(line, ' ');
  if (fields.size() < 10) return damaged();
  const auto dash = std::find(fields.begin() + 6, fields.end(), "-");
  if (fields.end() - dash < 4) return damaged();
  Entry entry;
  if (!number(fields[0], &entry.id) || !number(fields[1], &entry.parent)) return damaged();
  entry.point = unescape(fields[4]);
  entry.options = fields[5];
  entry.type = unescape(dash[1]);
  entry.super_options = dash[3];
  if (!entry.point.starts_with('/')) return damaged();
  return entry;
}

bool has_option(std::string_view options, std::string_view wanted) {
  const auto all = split(options, ',');
  return std::find(all.begin(), all.end(), wanted) != all.end();
}

bool is_below(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

// What an ordinary user mounted through FUSE is hers alone: nobody else may look into it, and it is
// gone when she is.
bool users_own(const Entry& entry) {
  if (!entry.type.starts_with("fuse")) return false;
  for (const auto option : split(entry.super_options, ','))
    if (option.starts_with("user_id=")) return option != "user_id=0";
  return false;
}

// The mount that a path leads to, as the kernel would walk it.
const Entry* walk(const Entry* root, const Covers& covers, const std::string& path) {
  const Entry* at = root;
  const auto climb = [&](const std::string& point) {
    for (auto on = covers.find({at->id, point}); on != covers.end() && on->second != at;
         on = covers.find({at->id, point}))
      at = on->second;
  };
  climb("/");
  for (size_t end = 1; path != "/" && end != path.npos;) {
    end = path.find('/', end + 1);
    climb(path.substr(0, end));
  }
  return at;
}

Result<std::vector<Entry>> parse(std::string_view mountinfo) {
  std::vector<Entry> entries;
  for (const auto line : split(mountinfo, '\n')) {
    auto entry = parse_line(line);
    if (!entry) return fail(entry.error());
    if (!entry->point.ends_with("//deleted")) entries.push_back(std::move(*entry));
  }
  return entries;
}

const Entry* find_root(const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    const bool inner = std::any_of(entries.begin(), entries.end(), [&](const Entry& other) {
      return &other != &entry && other.id == entry.parent;
    });
    if (entry.point == "/" && !inner) return &entry;
  }
  return nullptr;
}

bool is_real(const Entry& entry) {
  const auto holds = [&](std::string_view directory) { return is_below(entry.point, directory); };
  return entry.point != "/" &&
         std::find(kPseudo.begin(), kPseudo.end(), entry.type) == kPseudo.end() &&
         std::none_of(kPrivate.begin(), kPrivate.end(), holds) && !users_own(entry);
}

}  // namespace

std::string unescape(std::string_view field) {
  std::string plain;
  for (size_t i = 0; i < field.size(); i++) {
    if (field[i] == '\\' && i + 3 < field.size() && octal(field[i + 1]) && octal(field[i + 2]) &&
        octal(field[i + 3])) {
      plain += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                 field[i + 3] - '0');
      i += 3;
    } else {
      plain += field[i];
    }
  }
  return plain;
}

Result<std::vector<Mount>> real_mounts_from(std::string_view mountinfo) {
  auto entries = parse(mountinfo);
  if (!entries) return fail(entries.error());
  const Entry* root = find_root(*entries);
  if (!root)
    return fail(ErrorKind::kUnfit, "this process's root directory is not a mount",
                "use pivot_root, not chroot: CRIU needs it too");
  Covers covers;
  for (const Entry& entry : *entries) covers[{entry.parent, entry.point}] = &entry;

  std::vector<Mount> mounts;
  for (const Entry& entry : *entries)
    if (is_real(entry) && walk(root, covers, entry.point) == &entry)
      mounts.push_back(
          {.destination = entry.point,
           .type = entry.type,
           .read_only = has_option(entry.options, "ro") || has_option(entry.super_options, "ro")});
  // A parent's path is a prefix of its child's, so it comes first.
  std::sort(mounts.begin(), mounts.end(),
            [](const Mount& a, const Mount& b) { return a.destination < b.destination; });
  // An automounter's trigger is shown only where something is mounted on it: that needs the
  // directory.
  std::erase_if(mounts, [&](const Mount& m) {
    return m.type == "autofs" &&
           std::none_of(mounts.begin(), mounts.end(), [&](const Mount& other) {
             return other.type != "autofs" && is_below(other.destination, m.destination);
           });
  });
  return mounts;
}

Result<std::vector<Mount>> real_mounts() {
  auto mountinfo = read_file("/proc/self/mountinfo");
  if (!mountinfo) return fail(mountinfo.error());
  return real_mounts_from(*mountinfo);
}

}  // namespace stillpoint::container
