#include "launcher/supervisor/mesh.h"

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "common/log.h"
#include "common/wire/versions.h"

namespace stillpoint::supervisor {

using ErrorCode = boost::system::error_code;

namespace {

asio::ip::tcp::endpoint endpoint(const std::string& address) {
  ErrorCode checked;  // by Placement
  return {asio::ip::make_address_v4(address, checked), wire::kMeshPort};
}

}  // namespace

// One connection.  Kept alive by the operations under way, which do nothing more once it is closed.
class Mesh::Socket : public std::enable_shared_from_this<Socket> {
 public:
  Socket(Mesh& mesh, Peers::Connection number, Tcp::socket socket)
      : mesh_(mesh), number_(number), socket_(std::move(socket)) {}

  void read() {
    socket_.async_read_some(asio::buffer(buffer_),
                            [this, self = shared_from_this()](const ErrorCode& error, size_t n) {
                              if (!socket_.is_open()) return;
                              if (error) return end(error);
                              mesh_.peers_.arrived(number_, {buffer_.data(), n});
                              if (socket_.is_open()) read();
                            });
  }

  void write() {
    if (writing_ || !socket_.is_open()) return;
    auto frame = mesh_.peers_.next(number_);
    if (!frame) return;
    writing_ = true;
    frame_ = std::move(*frame);
    asio::async_write(socket_, asio::buffer(frame_),
                      [this, self = shared_from_this()](const ErrorCode& error, size_t) {
                        writing_ = false;
                        if (!socket_.is_open()) return;
                        // A failure shows at the reading side, behind what can still be read.
                        if (!error) write();
                      });
  }

  void close() {
    ErrorCode ignored;
    socket_.close(ignored);
  }

 private:
  void end(const ErrorCode& error) {
    close();
    mesh_.sockets_.erase(number_);
    mesh_.peers_.closed(number_, error == asio::error::eof ? "it was closed" : error.message());
  }

  Mesh& mesh_;
  const Peers::Connection number_;
  Tcp::socket socket_;
  std::array<char, 65536> buffer_;
  std::string frame_;
  bool writing_ = false;
};

Mesh::Mesh(asio::io_context& loop, const Placement& placement, const std::string& job,
           const std::string& token, Handlers handlers)
    : loop_(loop),
      self_(placement.self()),
      handlers_(std::move(handlers)),
      peers_({self_, static_cast<Node>(placement.nodes().size()), job, token}, *this),
      acceptor_(loop) {
  for (const auto& node : placement.nodes()) addresses_.push_back(node.address);
}

Mesh::~Mesh() {
  while (!calls_.empty()) stop_call(calls_.begin()->first);
  for (auto& [number, socket] : sockets_) socket->close();
}

Result<std::unique_ptr<Mesh>> Mesh::start(asio::io_context& loop, const Placement& placement,
                                          const std::string& job, const std::string& token,
                                          Handlers handlers) {
  std::unique_ptr<Mesh> mesh(new Mesh(loop, placement, job, token, std::move(handlers)));
  if (auto r = mesh->listen(); !r) return fail(r.error());
  mesh->accept();
  mesh->peers_.begin();
  return mesh;
}

Result<> Mesh::listen() {
  const auto at = endpoint(addresses_[self_]);
  ErrorCode error;
  acceptor_.open(at.protocol(), error);
  if (!error) acceptor_.set_option(Tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(at, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (!error) return {};
  return fail(system_error("listening for the job's other supervisors at " + addresses_[self_] +
                               " port " + std::to_string(wire::kMeshPort),
                           error.value()));
}

void Mesh::accept() {
  accepting_ = true;
  acceptor_.async_accept([this](const ErrorCode& error, Tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    accepting_ = false;
    if (error)  // out of descriptors, perhaps: tried again at the next tick
      return complain("no supervisor can be accepted: " + error.message());
    const Peers::Connection number = next_++;
    adopt(number, std::move(socket));
    peers_.accepted(number);
    accept();
  });
}

void Mesh::adopt(Peers::Connection number, Tcp::socket socket) {
  ErrorCode ignored;
  socket.set_option(Tcp::no_delay(true), ignored);
  const auto made = std::make_shared<Socket>(*this, number, std::move(socket));
  sockets_[number] = made;
  made->read();
}

void Mesh::send(Node to, const mesh::Message& message) {
  send(std::vector{to}, message);
}

void Mesh::send(const std::vector<Node>& to, const mesh::Message& message) {
  const auto payload = std::make_shared<const std::string>(message.SerializeAsString());
  for (const Node node : to) peers_.send(node, payload);
}

void Mesh::send_all(const mesh::Message& message) {
  peers_.send_all(std::make_shared<const std::string>(message.SerializeAsString()));
}

void Mesh::tick() {
  peers_.tick();
  if (!accepting_) accept();
}

// ---- Peers::Actions

void Mesh::call(Node node) {
  auto socket = std::make_shared<Tcp::socket>(loop_);
  calls_[node] = socket;
  socket->async_connect(endpoint(addresses_[node]), [this, node, socket](const ErrorCode& error) {
    const auto found = calls_.find(node);
    if (found == calls_.end() || found->second != socket) return;
    calls_.erase(found);
    if (error) return peers_.call_failed(node, error.message());
    const Peers::Connection number = next_++;
    adopt(number, std::move(*socket));
    peers_.called(node, number);
  });
}

void Mesh::stop_call(Node node) {
  const auto found = calls_.find(node);
  if (found == calls_.end()) return;
  const auto socket = std::move(found->second);
  calls_.erase(found);
  ErrorCode ignored;
  socket->close(ignored);
}

// Never from within the engine's call: it may be in the middle of something.
void Mesh::writable(Peers::Connection connection) {
  asio::post(loop_, [this, connection] {
    const auto found = sockets_.find(connection);
    if (found == sockets_.end()) return;
    const auto socket = found->second;  // writing may end it
    socket->write();
  });
}

void Mesh::close(Peers::Connection connection) {
  const auto found = sockets_.find(connection);
  if (found == sockets_.end()) return;
  found->second->close();
  sockets_.erase(found);
}

void Mesh::received(Node from, std::string bytes) {
  mesh::Message message;
  if (message.ParseFromString(bytes)) return handlers_.received(from, message);
  handlers_.lost(from, "it talks nonsense: a message that cannot be parsed");
}

void Mesh::lost(Node node, std::string why) {
  handlers_.lost(node, why);
}

void Mesh::complain(const std::string& what) {
  if (complaints_++ < kMostComplaints) log::warning(what);
  if (complaints_ == kMostComplaints) log::warning("more of the kind is not told");
}

}  // namespace stillpoint::supervisor
