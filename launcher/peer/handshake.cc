#include "launcher/peer/handshake.h"

#include <sys/socket.h>

#include <algorithm>

#include "launcher/peer/transcript.h"

namespace stillpoint::peer {

namespace {

void say(Versions& out, Speaks speaks) {
  out.set_least(speaks.least);
  out.set_most(speaks.most);
}

std::string in_words(const Versions& v) {
  if (v.least() == v.most()) return "version " + std::to_string(v.most());
  return "versions " + std::to_string(v.least()) + " to " + std::to_string(v.most());
}

// Version of a package as the other side gives it, for people.
std::string package(const std::string& version) {
  return version.empty() ? std::string() : " (stillpoint " + version.substr(0, 32) + ")";
}

Result<unsigned> highest_common(const Challenge& server, const Hello& client) {
  const Versions &a = server.versions(), &b = client.versions();
  const unsigned most = std::min(a.most(), b.most());
  if (a.least() && b.least() && most >= std::max(a.least(), b.least())) return most;
  return fail(ErrorKind::kProtocol,
              "the server" + package(server.stillpoint()) + " speaks " + in_words(a) +
                  " of the peer protocol, the client" + package(client.stillpoint()) + " " +
                  in_words(b),
              "install the same release of Stillpoint on both nodes");
}

Result<ucred> credentials_of(Socket& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return fail_errno("SO_PEERCRED");
  return peer;
}

std::unexpected<Error> unexpected_message() {
  return fail(ErrorKind::kProtocol, "an unexpected message during the handshake");
}

struct Claim {
  uid_t uid = 0;
  gid_t gid = 0;
};

// Whose credential it is; kPermission unless it is over this digest.
Task<Result<Claim>> check_credential(const Munge& munge, std::string text, std::string digest,
                                     Deadline deadline) {
  if (text.empty()) co_return fail(ErrorKind::kPermission, "no MUNGE credential was given");
  auto credential = co_await munge.decode(std::move(text), deadline);
  if (!credential) co_return fail(credential.error());
  if (credential->payload != digest)
    co_return fail(ErrorKind::kPermission,
                   "the MUNGE credential of uid " + std::to_string(credential->uid) +
                       " was made for another connection or another server");
  co_return Claim{credential->uid, credential->gid};
}

Task<Result<Party>> admit_or_say_why(Socket& socket, const Munge& munge, Deadline deadline,
                                     Speaks speaks) {
  Message message;
  Transcript transcript;
  transcript.server = near_end(socket);
  say(*transcript.challenge.mutable_versions(), speaks);
  transcript.challenge.set_nonce(random_nonce());
  transcript.challenge.set_stillpoint(STILLPOINT_VERSION);
  *message.mutable_challenge() = transcript.challenge;
  if (auto r = co_await write_message(socket, message, deadline); !r) co_return fail(r.error());
  auto answer = co_await read_message(socket, kMostHandshakeBytes, deadline);
  if (!answer) co_return fail(answer.error());
  if (!answer->has_hello()) co_return unexpected_message();
  transcript.hello = answer->hello();
  auto version = highest_common(transcript.challenge, transcript.hello);
  if (!version) co_return fail(version.error());
  transcript.version = *version;
  if (transcript.hello.nonce().size() != kNonceBytes)
    co_return fail(ErrorKind::kProtocol, "a nonce of another length");

  Party party{
      .version = *version, .stillpoint = transcript.hello.stillpoint(), .where = far_end(socket)};
  Message welcome;
  welcome.mutable_welcome()->set_version(*version);
  if (is_local(socket)) {
    auto peer = credentials_of(socket);
    if (!peer) co_return fail(peer.error());
    party.uid = peer->uid;
    party.gid = peer->gid;
  } else {
    auto claim = co_await check_credential(munge, transcript.hello.credential(),
                                           transcript.of_client(), deadline);
    if (!claim) co_return fail(claim.error());
    party.uid = claim->uid;
    party.gid = claim->gid;
    auto own = co_await munge.encode(transcript.of_server(), claim->uid, deadline);
    if (!own) co_return fail(own.error());
    welcome.mutable_welcome()->set_credential(*own);
  }
  if (auto r = co_await write_message(socket, welcome, deadline); !r) co_return fail(r.error());
  co_return party;
}

// The server's message, its refusal as an error.
Task<Result<Message>> from_server(Socket& socket, Deadline deadline) {
  auto message = co_await read_message(socket, kMostHandshakeBytes, deadline);
  if (message && message->has_refusal()) {
    const Error why = error_of(message->refusal());
    co_return fail(why.during("refused"));
  }
  co_return message;
}

Task<Result<Claim>> check_server(Socket& socket, const Munge& munge, const Welcome& welcome,
                                 const Transcript& transcript, Deadline deadline) {
  Claim claim;
  if (is_local(socket)) {
    auto peer = credentials_of(socket);
    if (!peer) co_return fail(peer.error());
    claim = {peer->uid, peer->gid};
  } else if (welcome.credential().empty()) {
    co_return fail(ErrorKind::kPermission, "the server gave no MUNGE credential");
  } else {
    auto credential = co_await munge.decode(welcome.credential(), deadline);
    if (!credential) co_return fail(credential.error().during("the server's answer"));
    claim = {credential->uid, credential->gid};
    if (claim.uid == 0 && credential->payload != transcript.of_server())
      co_return fail(ErrorKind::kPermission,
                     "the server's MUNGE credential was made for another connection");
  }
  if (claim.uid != 0)
    co_return fail(ErrorKind::kPermission,
                   "the server is run by uid " + std::to_string(claim.uid) + ", not by root",
                   "somebody may be posing as stillpointd there");
  co_return claim;
}

Task<Result<Party>> introduce_unnamed(Socket& socket, const Munge& munge, Deadline deadline,
                                      Speaks speaks) {
  auto first = co_await from_server(socket, deadline);
  if (!first) co_return fail(first.error());
  if (!first->has_challenge()) co_return unexpected_message();
  Transcript transcript;
  transcript.challenge = first->challenge();
  transcript.server = far_end(socket);
  if (transcript.challenge.nonce().size() != kNonceBytes)
    co_return fail(ErrorKind::kProtocol, "a nonce of another length");
  say(*transcript.hello.mutable_versions(), speaks);
  transcript.hello.set_nonce(random_nonce());
  transcript.hello.set_stillpoint(STILLPOINT_VERSION);
  Message message;
  const auto version = highest_common(transcript.challenge, transcript.hello);
  if (!version) co_return fail(version.error());
  transcript.version = *version;
  *message.mutable_hello() = transcript.hello;
  if (!is_local(socket)) {
    auto credential = co_await munge.encode(transcript.of_client(), 0, deadline);
    if (!credential) co_return fail(credential.error());
    message.mutable_hello()->set_credential(*credential);
  }
  if (auto r = co_await write_message(socket, message, deadline); !r) co_return fail(r.error());
  auto second = co_await from_server(socket, deadline);
  if (!second) co_return fail(second.error());
  if (!second->has_welcome()) co_return unexpected_message();
  if (second->welcome().version() != transcript.version)
    co_return fail(ErrorKind::kProtocol, "the server chose another version than was agreed");
  auto claim = co_await check_server(socket, munge, second->welcome(), transcript, deadline);
  if (!claim) co_return fail(claim.error());
  co_return Party{.uid = claim->uid,
                  .gid = claim->gid,
                  .version = transcript.version,
                  .stillpoint = transcript.challenge.stillpoint(),
                  .where = transcript.server};
}

}  // namespace

Task<Result<Party>> admit(Socket& socket, const Munge& munge, Deadline deadline, Speaks speaks) {
  auto party = co_await admit_or_say_why(socket, munge, deadline, speaks);
  if (party) co_return party;
  // Who is there and slow, or gone, is told nothing.
  const auto kind = party.error().kind();
  if (kind != ErrorKind::kIo && kind != ErrorKind::kTimeout) {
    const Message why = refusal(party.error());
    (void)co_await write_message(socket, why, deadline);
  }
  boost::system::error_code ignored;
  socket.shutdown(asio::socket_base::shutdown_both, ignored);
  co_return party;
}

Task<Result<Party>> introduce(Socket& socket, const Munge& munge, std::string server,
                              Deadline deadline, Speaks speaks) {
  auto party = co_await introduce_unnamed(socket, munge, deadline, speaks);
  if (!party) co_return fail(party.error().during(server));
  co_return party;
}

}  // namespace stillpoint::peer
