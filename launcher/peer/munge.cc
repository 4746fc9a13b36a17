#include "launcher/peer/munge.h"

#include <arpa/inet.h>
#include <munge.h>

#include <cstdlib>
#include <cstring>
#include <memory>

namespace stillpoint::peer {

namespace {

struct Destroy {
  void operator()(munge_ctx_t context) const { ::munge_ctx_destroy(context); }
};
using Context = std::unique_ptr<munge_ctx, Destroy>;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

Result<Context> make_context(const std::string& socket) {
  Context context(::munge_ctx_create());
  if (!context) return fail(ErrorKind::kSystem, "MUNGE: out of memory");
  if (!socket.empty() &&
      ::munge_ctx_set(context.get(), MUNGE_OPT_SOCKET, socket.c_str()) != EMUNGE_SUCCESS)
    return fail(ErrorKind::kInternal, "MUNGE does not take the socket " + socket);
  return context;
}

Error in_words(munge_err_t code, munge_ctx_t context) {
  switch (code) {
    case EMUNGE_SOCKET:
    case EMUNGE_TIMEOUT: {
      const char* text = ::munge_ctx_strerror(context);
      return Error(ErrorKind::kUnfit,
                   "munged does not answer on this node: " + std::string(text ? text : "no socket"),
                   "start it (systemctl start munge)");
    }
    case EMUNGE_CRED_EXPIRED:
      return Error(ErrorKind::kPermission, "the MUNGE credential has expired",
                   "set the clocks of both nodes, which differ or one of which stood still");
    case EMUNGE_CRED_REWOUND:
      return Error(ErrorKind::kPermission, "the MUNGE credential comes from the future",
                   "set the clocks of both nodes, which differ");
    case EMUNGE_CRED_REPLAYED:
      return Error(ErrorKind::kPermission, "the MUNGE credential has been used before");
    case EMUNGE_CRED_INVALID:
      return Error(ErrorKind::kPermission, "the MUNGE credential was made with another key",
                   "give both nodes the same /etc/munge/munge.key");
    case EMUNGE_CRED_UNAUTHORIZED:
      return Error(ErrorKind::kPermission, "the MUNGE credential is meant for another user");
    case EMUNGE_BAD_LENGTH:
    case EMUNGE_BAD_CRED:
    case EMUNGE_BAD_VERSION:
    case EMUNGE_BAD_CIPHER:
    case EMUNGE_BAD_MAC:
    case EMUNGE_BAD_ZIP:
    case EMUNGE_BAD_REALM:
      return Error(ErrorKind::kProtocol,
                   std::string("that is no MUNGE credential: ") + ::munge_strerror(code));
    default:
      return Error(ErrorKind::kSystem, std::string("MUNGE: ") + ::munge_strerror(code));
  }
}

// What a worker hands back: the numbers, then host and payload with the host's length in front.
struct Numbers {
  uid_t uid;
  gid_t gid;
  size_t host_bytes;
};

std::string packed(const Credential& c) {
  const Numbers numbers{c.uid, c.gid, c.host.size()};
  return std::string(reinterpret_cast<const char*>(&numbers), sizeof numbers) + c.host + c.payload;
}

Credential unpacked(const std::string& bytes) {
  Numbers numbers{};
  std::memcpy(&numbers, bytes.data(), sizeof numbers);
  return {.uid = numbers.uid,
          .gid = numbers.gid,
          .host = bytes.substr(sizeof numbers, numbers.host_bytes),
          .payload = bytes.substr(sizeof numbers + numbers.host_bytes)};
}

}  // namespace

Result<std::string> Munge::encode_now(const std::string& payload, uid_t only_for) const {
  auto context = make_context(socket_);
  if (!context) return fail(context.error());
  if (::munge_ctx_set(context->get(), MUNGE_OPT_UID_RESTRICTION, only_for) != EMUNGE_SUCCESS)
    return fail(ErrorKind::kInternal, "MUNGE does not take uid " + std::to_string(only_for));
  char* text = nullptr;
  const auto code =
      ::munge_encode(&text, context->get(), payload.data(), static_cast<int>(payload.size()));
  const std::unique_ptr<char, Free> owned(text);
  if (code != EMUNGE_SUCCESS) return fail(in_words(code, context->get()));
  return std::string(text);
}

Result<Credential> Munge::decode_now(const std::string& credential) const {
  auto context = make_context(socket_);
  if (!context) return fail(context.error());
  Credential decoded;
  void* payload = nullptr;
  int size = 0;
  const auto code = ::munge_decode(credential.c_str(), context->get(), &payload, &size,
                                   &decoded.uid, &decoded.gid);
  // Given back even where the credential is expired or replayed.
  const std::unique_ptr<void, Free> owned(payload);
  if (code != EMUNGE_SUCCESS) return fail(in_words(code, context->get()));
  if (payload && size > 0)
    decoded.payload.assign(static_cast<char*>(payload), static_cast<size_t>(size));
  in_addr address{};
  char text[INET_ADDRSTRLEN] = {};
  if (::munge_ctx_get(context->get(), MUNGE_OPT_ADDR4, &address) == EMUNGE_SUCCESS &&
      ::inet_ntop(AF_INET, &address, text, sizeof text))
    decoded.host = text;
  return decoded;
}

Task<Result<std::string>> Munge::encode(std::string payload, uid_t only_for,
                                        Deadline deadline) const {
  auto worker =
      Worker::start("MUNGE", nullptr, [&](Progress&) { return encode_now(payload, only_for); });
  if (!worker) co_return fail(worker.error());
  co_return co_await finish(std::move(*worker), deadline);
}

Task<Result<Credential>> Munge::decode(std::string credential, Deadline deadline) const {
  auto worker = Worker::start("MUNGE", nullptr, [&](Progress&) -> Result<std::string> {
    auto decoded = decode_now(credential);
    if (!decoded) return fail(decoded.error());
    return packed(*decoded);
  });
  if (!worker) co_return fail(worker.error());
  auto bytes = co_await finish(std::move(*worker), deadline);
  if (!bytes) co_return fail(bytes.error());
  co_return unpacked(*bytes);
}

}  // namespace stillpoint::peer
