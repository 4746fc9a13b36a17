// What PMIx calls us by.  On PMIx's thread, noexcept; see pmix_server.h.
#pragma once

#include <pmix_server.h>

#include "launcher/supervisor/pmix_server.h"

namespace stillpoint::supervisor {

struct Upcalls {
  static PmixServer* server;  // upcalls carry no pointer of ours
  static pmix_server_module_t table();

 private:
  static void add_life_of_ranks(pmix_server_module_t& table);
  static void add_collectives(pmix_server_module_t& table);
  static void add_groups(pmix_server_module_t& table);
  static void add_store(pmix_server_module_t& table);
  static void add_rest(pmix_server_module_t& table);
  static void ask_store(mesh::StoreRequest request, mesh::StoreRequest::Operation operation,
                        const PmixServer::StoreAsked& asked);
};

}  // namespace stillpoint::supervisor
