#include "launcher/supervisor/pmix_upcalls.h"

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "launcher/supervisor/pmix_info.h"
#include "launcher/supervisor/pmix_server.h"

namespace stillpoint::supervisor {

PmixServer* Upcalls::server = nullptr;

namespace {

// Nothing may be thrown through PMIx.
template <typename Body>
pmix_status_t guarded(Body body) noexcept {
  try {
    return body();
  } catch (const std::exception&) {
    return PMIX_ERR_NOMEM;
  }
}

std::vector<pmix_proc_t> copy(const pmix_proc_t* procs, size_t count) {
  return procs ? std::vector<pmix_proc_t>(procs, procs + count) : std::vector<pmix_proc_t>();
}

bool has_text(const pmix_info_t& info) {
  return info.value.type == PMIX_STRING && info.value.data.string;
}

mesh::StoreRequest about_keys(const pmix_proc_t* proc, char** keys) {
  mesh::StoreRequest request;
  request.set_rank(proc->rank);
  for (char** key = keys; key && *key; key++) request.add_keys(*key);
  return request;
}

// Ranks of this node have been told by PMIx already.
bool concerns_others(pmix_data_range_t range) {
  return range != PMIX_RANGE_RM && range != PMIX_RANGE_LOCAL && range != PMIX_RANGE_PROC_LOCAL &&
         range != PMIX_RANGE_INVALID;
}

constexpr const char* kNoSpawn =
    "stillpoint: MPI_Comm_spawn is not supported: a job keeps the number of its ranks; start it "
    "with "
    "as many as it needs\n";

}  // namespace

pmix_server_module_t Upcalls::table() {
  pmix_server_module_t table{};
  add_life_of_ranks(table);
  add_collectives(table);
  add_groups(table);
  add_store(table);
  add_rest(table);
  return table;
}

void Upcalls::add_life_of_ranks(pmix_server_module_t& table) {
  table.client_connected2 = [](const pmix_proc_t* proc, void*, pmix_info_t*, size_t,
                               pmix_op_cbfunc_t, void*) noexcept -> pmix_status_t {
    return guarded([&] {
      if (!server->is_rank(*proc)) return PMIX_ERR_NOT_FOUND;
      server->post_([rank = proc->rank] { server->events_.connected(rank); });
      return PMIX_OPERATION_SUCCEEDED;
    });
  };
  table.client_finalized = [](const pmix_proc_t* proc, void*, pmix_op_cbfunc_t,
                              void*) noexcept -> pmix_status_t {
    return guarded([&] {
      if (server->is_rank(*proc))
        server->post_([rank = proc->rank] { server->events_.finalized(rank); });
      return PMIX_OPERATION_SUCCEEDED;
    });
  };
  // Whatever subset the rank names, the whole job ends, as it does under mpirun.
  table.abort = [](const pmix_proc_t* proc, void*, int status, const char*, pmix_proc_t*, size_t,
                   pmix_op_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      if (!server->is_rank(*proc)) return PMIX_ERR_NOT_FOUND;
      server->post_([rank = proc->rank, status, reply, context] {
        server->aborted_.push_back({reply, context});
        server->events_.aborted(rank, status);
      });
      return PMIX_SUCCESS;
    });
  };
}

void Upcalls::add_collectives(pmix_server_module_t& table) {
  table.fence_nb = [](const pmix_proc_t* procs, size_t count, const pmix_info_t*, size_t,
                      char* data, size_t size, pmix_modex_cbfunc_t reply,
                      void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      auto task = [members = copy(procs, count),
                   blob = data ? std::string(data, size) : std::string(), reply,
                   context] { server->fence(members, blob, reply, context); };
      server->post_(std::move(task));
      return PMIX_SUCCESS;
    });
  };
  // Only asked for ranks that are not on this node.
  table.direct_modex = [](const pmix_proc_t* proc, const pmix_info_t*, size_t,
                          pmix_modex_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      if (!server->is_rank(*proc)) return PMIX_ERR_NOT_FOUND;
      server->post_(
          [rank = proc->rank, reply, context] { server->ask_modex(rank, reply, context); });
      return PMIX_SUCCESS;
    });
  };
  table.connect = [](const pmix_proc_t* procs, size_t count, const pmix_info_t*, size_t,
                     pmix_op_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      auto task = [members = copy(procs, count), reply, context] {
        server->connect("connect", members, {reply, context});
      };
      server->post_(std::move(task));
      return PMIX_SUCCESS;
    });
  };
  table.disconnect = [](const pmix_proc_t* procs, size_t count, const pmix_info_t*, size_t,
                        pmix_op_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      auto task = [members = copy(procs, count), reply, context] {
        server->connect("disconnect", members, {reply, context});
      };
      server->post_(std::move(task));
      return PMIX_SUCCESS;
    });
  };
}

void Upcalls::add_groups(pmix_server_module_t& table) {
  table.group = [](pmix_group_operation_t operation, char* group, const pmix_proc_t* procs,
                   size_t count, const pmix_info_t* info, size_t infos, pmix_info_cbfunc_t reply,
                   void* context) noexcept -> pmix_status_t {
    return guarded([&]() -> pmix_status_t {
      std::string endpoints;
      bool local = false;
      for (size_t i = 0; i < infos; i++)
        if (PMIx_Check_key(info[i].key, PMIX_GROUP_LOCAL_ONLY))
          local = PMIx_Value_true(&info[i].value) == PMIX_BOOL_TRUE;
      // PMIx 5.0.7 (pmix_server_grpdestruct) goes on to ask a second time, with the same tracker,
      // when the end of a group of this node's ranks is not answered on the spot; the second answer
      // finds it freed.
      if (local && operation == PMIX_GROUP_DESTRUCT) return PMIX_OPERATION_SUCCEEDED;
      for (size_t i = 0; i < infos; i++)
        if (PMIx_Check_key(info[i].key, PMIX_GROUP_ENDPT_DATA) && info[i].value.data.bo.bytes)
          endpoints.append(info[i].value.data.bo.bytes, info[i].value.data.bo.size);
      auto task = [=, name = std::string(group), members = copy(procs, count)] {
        if (operation == PMIX_GROUP_CONSTRUCT)
          server->construct_group(name, members, endpoints, reply, context);
        else
          server->destruct_group(name, members, reply, context);
      };
      server->post_(std::move(task));
      return PMIX_SUCCESS;
    });
  };
}

void Upcalls::add_store(pmix_server_module_t& table) {
  table.publish = [](const pmix_proc_t* proc, const pmix_info_t* info, size_t count,
                     pmix_op_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      mesh::StoreRequest request;
      request.set_rank(proc->rank);
      for (size_t i = 0; i < count; i++) {
        const std::string key = info[i].key;
        if (key.starts_with("pmix")) continue;  // a directive, not data
        auto value = pack_value(info[i].value);
        if (!value) return PMIX_ERR_PACK_FAILURE;
        auto* item = request.add_items();
        item->set_key(key);
        item->set_value(std::move(*value));
      }
      ask_store(std::move(request), mesh::StoreRequest::PUBLISH, {reply, nullptr, context});
      return PMIX_SUCCESS;
    });
  };
  table.lookup = [](const pmix_proc_t* proc, char** keys, const pmix_info_t* info, size_t count,
                    pmix_lookup_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      mesh::StoreRequest request = about_keys(proc, keys);
      for (size_t i = 0; i < count; i++)
        if (PMIx_Check_key(info[i].key, PMIX_WAIT)) request.set_wait(true);
      ask_store(std::move(request), mesh::StoreRequest::LOOKUP, {nullptr, reply, context});
      return PMIX_SUCCESS;
    });
  };
  table.unpublish = [](const pmix_proc_t* proc, char** keys, const pmix_info_t*, size_t,
                       pmix_op_cbfunc_t reply, void* context) noexcept -> pmix_status_t {
    return guarded([&] {
      ask_store(about_keys(proc, keys), mesh::StoreRequest::UNPUBLISH, {reply, nullptr, context});
      return PMIX_SUCCESS;
    });
  };
}

void Upcalls::ask_store(mesh::StoreRequest request, mesh::StoreRequest::Operation operation,
                        const PmixServer::StoreAsked& asked) {
  request.set_operation(operation);
  server->post_([request = std::move(request), asked] { server->ask_store(request, asked); });
}

void Upcalls::add_rest(pmix_server_module_t& table) {
  table.spawn = [](const pmix_proc_t* proc, const pmix_info_t*, size_t, const pmix_app_t*, size_t,
                   pmix_spawn_cbfunc_t, void*) noexcept -> pmix_status_t {
    return guarded([&] {
      server->post_([rank = proc->rank] { server->events_.said(rank, Stream::kErr, kNoSpawn); });
      return PMIX_ERR_NOT_SUPPORTED;
    });
  };
  table.register_events = [](pmix_status_t*, size_t, const pmix_info_t*, size_t, pmix_op_cbfunc_t,
                             void*) noexcept -> pmix_status_t { return PMIX_OPERATION_SUCCEEDED; };
  table.deregister_events = [](pmix_status_t*, size_t, pmix_op_cbfunc_t,
                               void*) noexcept -> pmix_status_t {
    return PMIX_OPERATION_SUCCEEDED;
  };
  table.notify_event = [](pmix_status_t code, const pmix_proc_t* source, pmix_data_range_t range,
                          pmix_info_t* info, size_t count, pmix_op_cbfunc_t,
                          void*) noexcept -> pmix_status_t {
    return guarded([&] {
      if (server->job_.placement.alone() || !concerns_others(range))
        return PMIX_OPERATION_SUCCEEDED;
      auto infos = pack_infos(info, count);
      if (!infos) return PMIX_ERR_PACK_FAILURE;
      mesh::Message message;
      auto* event = message.mutable_event();
      event->set_code(code);
      event->set_nspace(source->nspace);
      event->set_rank(source->rank);
      event->set_range(range);
      event->set_info(std::move(*infos));
      server->post_([message = std::move(message)] { server->events_.send_all(message); });
      return PMIX_OPERATION_SUCCEEDED;
    });
  };
  table.log = [](const pmix_proc_t* proc, const pmix_info_t* data, size_t count, const pmix_info_t*,
                 size_t, pmix_op_cbfunc_t reply, void* context) noexcept {
    const pmix_status_t status = guarded([&] {
      std::string out, err;
      for (size_t i = 0; i < count; i++) {
        if (!has_text(data[i])) continue;
        (PMIx_Check_key(data[i].key, PMIX_LOG_STDOUT) ? out : err) += data[i].value.data.string;
      }
      auto task = [=, rank = proc ? proc->rank : 0] {
        if (!out.empty()) server->events_.said(rank, Stream::kOut, out);
        if (!err.empty()) server->events_.said(rank, Stream::kErr, err);
        if (reply) reply(PMIX_SUCCESS, context);
      };
      server->post_(std::move(task));
      return PMIX_SUCCESS;
    });
    if (status != PMIX_SUCCESS && reply) reply(status, context);
  };
}

}  // namespace stillpoint::supervisor
