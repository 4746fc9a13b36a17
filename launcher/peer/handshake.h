// Who is there, and which version of the protocol is spoken; both before anything else.
//
// Over TCP: the server sends a nonce; the client answers with one of its own and a MUNGE
// credential, which the server alone (uid 0) may decode, over a digest of both nonces, both ranges
// of versions, the version chosen and the server's address and port as the client called them.  The
// server answers with a credential over the same, for the client's uid alone, which must be root's.
// Hence:
//   - a credential is of no use a second time: on this host munged refuses it, on another the nonce
//     does not fit;
//   - what somebody obtains by posing as a server is of no use with the real one, whose address is
//     another; and a server that is not root on a node with the site's key is found out;
//   - nobody in between talks both down to an older version.
// What follows the handshake is neither signed nor encrypted: as with Slurm, the network between
// the nodes is taken to deliver packets to the addresses they are sent to.
//
// Over a Unix socket the kernel says who is there (SO_PEERCRED) and there are no credentials.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/async/event.h"
#include "common/wire/versions.h"
#include "launcher/peer/munge.h"
#include "launcher/peer/stream.h"

namespace stillpoint::peer {

// A peer may send no more than this before it is known.
inline constexpr size_t kMostHandshakeBytes = 4096;
inline constexpr std::chrono::seconds kHandshakeTime{5};

struct Speaks {
  unsigned least = wire::kLeastPeerVersion, most = wire::kMostPeerVersion;
};

// The other side, once it is known.
struct Party {
  uid_t uid = 0;
  gid_t gid = 0;
  unsigned version = 0;    // that is spoken
  std::string stillpoint;  // version of its package
  std::string where;       // "10.88.0.2:41873", "this node"
};

// The server's side: kPermission, kProtocol (nonsense, or no version in common), kTimeout, kIo, or
// kUnfit (no munged); the client has been told why, where it can have understood, and the socket
// is of no more use.
Task<Result<Party>> admit(Socket& socket, const Munge& munge, Deadline deadline,
                          Speaks speaks = {});

// The client's side.  `server` is how errors name the other.  What the server refuses with comes
// back as the error.
Task<Result<Party>> introduce(Socket& socket, const Munge& munge, std::string server,
                              Deadline deadline, Speaks speaks = {});

}  // namespace stillpoint::peer
