#include "launcher/supervisor/data_store.h"

#include <algorithm>
#include <utility>

namespace stillpoint::supervisor {

namespace {
size_t cost(const Published& item) {
  return 2 * item.key.size() + item.value.size() + 128;
}
}  // namespace

Result<> DataStore::publish(Published item) {
  if (items_.contains(item.key))
    return fail(ErrorKind::kBusy, item.key + " has been published already");
  if (bytes_ + cost(item) > most_bytes_)
    return fail(ErrorKind::kNoSpace, "the ranks have published too much");
  bytes_ += cost(item);
  std::string key = item.key;
  items_.emplace(std::move(key), std::move(item));
  // Answers may publish in turn, so nothing of ours is touched after the first.
  std::vector<Waiting> ready;
  std::erase_if(waiting_, [&](Waiting& w) {
    if (find(w.keys).size() < w.keys.size()) return false;
    ready.push_back(std::move(w));
    return true;
  });
  for (const Waiting& w : ready) w.found(find(w.keys));
  return {};
}

void DataStore::unpublish(uint32_t rank, const std::vector<std::string>& keys) {
  for (auto it = items_.begin(); it != items_.end();) {
    const bool named = keys.empty() || std::ranges::find(keys, it->first) != keys.end();
    if (named && it->second.rank == rank) {
      bytes_ -= cost(it->second);
      it = items_.erase(it);
    } else {
      ++it;
    }
  }
}

std::vector<Published> DataStore::find(const std::vector<std::string>& keys) const {
  std::vector<Published> found;
  for (const std::string& key : keys)
    if (const auto it = items_.find(key); it != items_.end()) found.push_back(it->second);
  return found;
}

Result<> DataStore::await(std::vector<std::string> keys, Found found) {
  if (auto items = find(keys); items.size() == keys.size()) {
    found(items);
    return {};
  }
  if (waiting_.size() >= kMostWaiting)
    return fail(ErrorKind::kNoSpace, "too many lookups wait for something to be published");
  waiting_.push_back({std::move(keys), std::move(found)});
  return {};
}

}  // namespace stillpoint::supervisor
