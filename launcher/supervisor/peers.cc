#include "launcher/supervisor/peers.h"

#include <algorithm>
#include <utility>

#include "common/wire/versions.h"
#include "launcher/supervisor/fan.h"

namespace stillpoint::supervisor {

namespace {
auto nonsense(std::string what) {
  return fail(ErrorKind::kProtocol, std::move(what));
}
}  // namespace

void Peers::begin() {
  if (group_.self != 0) call(fan::above(group_.self));
}

bool Peers::up(Node node) const {
  const auto found = peers_.find(node);
  return found != peers_.end() && found->second.state == State::kUp;
}

std::vector<Peers::Node> Peers::neighbours() const {
  std::vector<Node> found;
  if (group_.self != 0) found.push_back(fan::above(group_.self));
  for (const Node node : fan::below(group_.self, group_.nodes)) found.push_back(node);
  return found;
}

// ---- sending

void Peers::send(Node to, Payload message) {
  queue(to, {.message = std::move(message)});
}

void Peers::send_all(const Payload& message) {
  for (const Node node : neighbours()) queue(node, {.message = message, .to_all = true});
}

void Peers::queue(Node to, Item item) {
  if (to == group_.self || to >= group_.nodes) return;
  Peer& peer = peers_[to];
  if (peer.state == State::kLost) return;
  peer.queued += item.message->size();
  if (peer.queued > limits_.queued) return lose(to, "it does not read what it is sent");
  peer.queue.push_back(std::move(item));
  if (peer.state == State::kUnknown) call(to);
  if (peer.state == State::kUp) actions_.writable(*peer.connection);
}

std::optional<std::string> Peers::next(Connection connection) {
  const auto found = lines_.find(connection);
  if (found == lines_.end()) return std::nullopt;
  Line& line = found->second;
  if (!line.first.empty()) {
    std::string frame = std::move(line.first.front());
    line.first.pop_front();
    return frame;
  }
  if (line.closing) {  // its last word is written
    hang_up(connection);
    return std::nullopt;
  }
  if (!line.up) return std::nullopt;
  Peer& peer = peers_[*line.node];
  if (peer.queue.empty()) return std::nullopt;
  Item& item = peer.queue.front();
  mesh::Frame frame;
  frame.mutable_fragment()->set_data(item.message->substr(item.sent, kFragment));
  item.sent += frame.fragment().data().size();
  frame.mutable_fragment()->set_to_all(item.to_all);
  if (item.sent == item.message->size()) {
    frame.mutable_fragment()->set_last(true);
    peer.queued -= item.message->size();
    peer.queue.pop_front();
  }
  return wire::frame(frame.SerializeAsString());
}

void Peers::say(Connection connection, const mesh::Frame& frame) {
  lines_.at(connection).first.push_back(wire::frame(frame.SerializeAsString()));
  actions_.writable(connection);
}

// ---- calling

void Peers::call(Node node) {
  Peer& peer = peers_[node];
  if (peer.state == State::kUnknown) peer.ticks_left = kCallTicks;
  peer.state = State::kCalling;
  peer.attempt_left = kAttemptTicks;
  actions_.call(node);
}

void Peers::called(Node node, Connection connection) {
  Peer& peer = peers_[node];
  if (peer.state != State::kCalling || peer.connection) return actions_.close(connection);
  peer.connection = connection;
  lines_[connection].node = node;
  mesh::Frame frame;
  auto* hello = frame.mutable_hello();
  hello->set_version(wire::kMeshVersion);
  hello->set_job(group_.job);
  hello->set_node(group_.self);
  hello->set_nodes(group_.nodes);
  hello->set_token(group_.token);
  say(connection, frame);
}

void Peers::call_failed(Node node, const std::string& why) {
  if (peers_[node].state == State::kCalling) rest(node, why);
}

void Peers::rest(Node node, const std::string& why) {
  Peer& peer = peers_[node];
  if (!why.empty()) peer.why = why;
  if (peer.state == State::kGreeted) peer.ticks_left = kCallTicks;
  peer.state = State::kResting;
  peer.connection.reset();
}

void Peers::tick() {
  for (Node node = 0; node < group_.nodes; node++) {
    const auto found = peers_.find(node);
    if (found == peers_.end()) continue;
    Peer& peer = found->second;
    if (peer.state != State::kCalling && peer.state != State::kResting) continue;
    if (--peer.ticks_left <= 0) {
      lose(node, "no connection within " + std::to_string(kCallTicks) + " s" +
                     (peer.why.empty() ? "" : ": " + peer.why));
    } else if (peer.state == State::kResting) {
      call(node);
    } else if (--peer.attempt_left <= 0) {
      if (peer.connection)
        hang_up(*peer.connection);
      else
        actions_.stop_call(node);
      rest(node, "it does not answer");
    }
  }
  std::vector<Connection> late;
  for (auto& [connection, line] : lines_)
    if (!line.up && (line.closing || !line.node) && ++line.ticks >= kHelloTicks)
      late.push_back(connection);
  for (const Connection connection : late) {
    if (!lines_.at(connection).closing) actions_.complain("a caller does not say who it is");
    hang_up(connection);
  }
}

// ---- being called

void Peers::accepted(Connection connection) {
  lines_[connection];
  bound_strangers();
}

// The oldest go: connections are numbered.
void Peers::bound_strangers() {
  const auto stranger = [](const auto& entry) { return !entry.second.node; };
  if (static_cast<size_t>(std::ranges::count_if(lines_, stranger)) <= kMostStrangers + group_.nodes)
    return;
  actions_.complain("too many callers that do not say who they are");
  hang_up(std::ranges::find_if(lines_, stranger)->first);
}

void Peers::arrived(Connection connection, std::string_view bytes) {
  auto found = lines_.find(connection);
  if (found == lines_.end() || found->second.closing) return;
  Line& first = found->second;
  Result<> r;
  if (!first.node && (first.greeting += bytes.size()) > kMostGreeting)
    r = nonsense("a caller that was not let in sends too much");
  else
    first.frames.feed(bytes);
  // Whatever is called from here may end the line.
  while (r && (found = lines_.find(connection)) != lines_.end() && !found->second.closing) {
    auto payload = found->second.frames.next();
    if (!payload) {
      r = fail(payload.error());
      break;
    }
    if (!*payload) return;
    r = take(connection, found->second, **payload);
  }
  if (r || !lines_.contains(connection)) return;
  const auto node = lines_.at(connection).node;
  actions_.complain((node ? "node " + std::to_string(*node) : "a caller") +
                    " talks nonsense: " + r.error().line());
  const bool was_up = lines_.at(connection).up;
  hang_up(connection);
  if (node && was_up)
    lose(*node, "it talks nonsense: " + r.error().line());
  else if (node)
    rest(*node, r.error().line());
}

Result<> Peers::take(Connection connection, Line& line, const std::string& payload) {
  mesh::Frame frame;
  if (!frame.ParseFromString(payload)) return nonsense("a frame that cannot be parsed");
  if (line.up) {
    if (!frame.has_fragment()) return nonsense("a frame out of place");
    return take_fragment(line, frame.fragment());
  }
  if (line.node) return take_answer(connection, line, frame);
  if (!frame.has_hello()) return nonsense("the first frame is no Hello");
  return take_hello(connection, line, frame.hello());
}

Result<> Peers::take_hello(Connection connection, Line& line, const mesh::Hello& hello) {
  if (hello.token() != group_.token) return nonsense("its token is not that of this job");
  const Node node = hello.node();
  if (hello.version() != wire::kMeshVersion) {
    refuse(connection, "it speaks version " + std::to_string(wire::kMeshVersion) +
                           " of the protocol, we version " + std::to_string(hello.version()));
    return {};
  }
  if (hello.job() != group_.job || hello.nodes() != group_.nodes || node >= group_.nodes ||
      node == group_.self) {
    refuse(connection, "it has another list of the job's nodes");
    return {};
  }
  Peer& peer = peers_[node];
  // A call that it made before ours reached it, or while ours is under way: ours stands.
  const bool ours =
      peer.state == State::kCalling || (peer.state == State::kUp && peer.called_by_us);
  if (ours && group_.self < node) {
    hang_up(connection);
    return {};
  }
  if (peer.state == State::kUp || peer.state == State::kLost)
    return nonsense("node " + std::to_string(node) + " calls a second time");
  // Our call, which has to give way, or an older one of its own, which it must have given up.
  if (peer.connection)
    hang_up(*peer.connection);
  else if (peer.state == State::kCalling)
    actions_.stop_call(node);
  peer.state = State::kGreeted;
  peer.connection = connection;
  line.node = node;
  line.welcomed = true;
  welcome(connection);
  return {};
}

void Peers::refuse(Connection connection, const std::string& reason) {
  actions_.complain("a caller is refused: " + reason);
  lines_.at(connection).closing = true;
  mesh::Frame frame;
  frame.mutable_refusal()->set_reason(reason);
  say(connection, frame);
}

void Peers::welcome(Connection connection) {
  mesh::Frame frame;
  frame.mutable_welcome()->set_node(group_.self);
  say(connection, frame);
}

void Peers::raise(Node node, Connection connection, Line& line) {
  line.up = true;
  Peer& peer = peers_[node];
  peer.state = State::kUp;
  peer.called_by_us = !line.welcomed;
  if (!peer.queue.empty()) actions_.writable(connection);
}

Result<> Peers::take_answer(Connection connection, Line& line, const mesh::Frame& frame) {
  const Node node = *line.node;
  if (frame.has_refusal() && !line.welcomed) {
    hang_up(connection);
    lose(node, "it refuses us: " + frame.refusal().reason().substr(0, 200));
    return {};
  }
  if (!frame.has_welcome() || frame.welcome().node() != node)
    return nonsense("not the answer of node " + std::to_string(node));
  if (!line.welcomed) welcome(connection);
  raise(node, connection, line);
  return {};
}

// ---- messages

Result<> Peers::take_fragment(Line& line, const mesh::Fragment& fragment) {
  const Node from = *line.node;
  if (line.message.size() + fragment.data().size() > limits_.message)
    return nonsense("a message of more than " + std::to_string(limits_.message) + " bytes");
  line.message += fragment.data();
  if (!fragment.last()) return {};
  std::string message = std::exchange(line.message, {});
  if (fragment.to_all()) {
    const auto all = neighbours();
    if (std::ranges::find(all, from) == all.end())
      return nonsense("a message for all from a node that is not next to us");
    const auto copy = std::make_shared<const std::string>(message);
    for (const Node node : all)
      if (node != from) queue(node, {.message = copy, .to_all = true});
  }
  actions_.received(from, std::move(message));
  return {};
}

// ---- ends

void Peers::closed(Connection connection, const std::string& why) {
  const auto found = lines_.find(connection);
  if (found == lines_.end()) return;
  const Line line = std::move(found->second);
  lines_.erase(found);
  if (line.up) return lose(*line.node, why);
  // A call that did not come to anything: the next one may, ours or the peer's.
  if (line.node && peers_[*line.node].connection == connection) rest(*line.node, why);
}

void Peers::hang_up(Connection connection) {
  lines_.erase(connection);
  actions_.close(connection);
}

void Peers::lose(Node node, const std::string& why) {
  Peer& peer = peers_[node];
  if (peer.state == State::kLost) return;
  if (peer.state == State::kCalling && !peer.connection) actions_.stop_call(node);
  peer.state = State::kLost;
  const auto connection = std::exchange(peer.connection, std::nullopt);
  peer.queue.clear();
  peer.queued = 0;
  if (connection && lines_.contains(*connection)) hang_up(*connection);
  actions_.lost(node, why);
}

}  // namespace stillpoint::supervisor
