// MUNGE: who the other side is.  A credential says which user made it, on a host that holds the
// site's key, and carries a payload that nobody has changed.  It can be read once on each host, and
// for some minutes only.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/async/event.h"
#include "common/deadline.h"
#include "common/error.h"

namespace stillpoint::peer {

struct Credential {
  uid_t uid = 0;  // who made it
  gid_t gid = 0;
  std::string host;  // IPv4 address of the host where it was made, as that host's munged has it
  std::string payload;
};

class Munge {
 public:
  Munge() = default;  // munged's socket is where munged has it by default
  explicit Munge(std::string socket) : socket_(std::move(socket)) {}

  // Block while munged does not answer, for some seconds at most.
  // kUnfit: munged does not run here.  kPermission: the credential is expired, replayed, of another
  // key, or not for us; the error says which.  kProtocol: it is none.
  Result<std::string> encode_now(const std::string& payload, uid_t only_for) const;
  Result<Credential> decode_now(const std::string& credential) const;

  // The same in a worker: kTimeout at the deadline.  `this` outlives the call.
  Task<Result<std::string>> encode(std::string payload, uid_t only_for, Deadline deadline) const;
  Task<Result<Credential>> decode(std::string credential, Deadline deadline) const;

 private:
  std::string socket_;
};

}  // namespace stillpoint::peer
