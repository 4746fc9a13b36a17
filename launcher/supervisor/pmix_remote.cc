// PmixServer's dealings with the servers of other nodes.
#include <pmix.h>

#include <utility>

#include "launcher/supervisor/pmix_info.h"
#include "launcher/supervisor/pmix_server.h"

namespace stillpoint::supervisor {

namespace {

constexpr uint32_t kStoreNode = 0;

auto nonsense(const std::string& what) {
  return fail(ErrorKind::kProtocol, what);
}

Collectives::Bundle bundle_of(const auto& parts) {
  Collectives::Bundle bundle;
  for (const mesh::Part& part : parts) bundle.push_back({part.node(), part.data()});
  return bundle;
}

void put(auto& message, const std::string& key, const Collectives::Bundle& parts) {
  message.set_key(key);
  for (const auto& part : parts) {
    auto* one = message.add_parts();
    one->set_node(part.node);
    one->set_data(part.data);
  }
}

// Runs it on PMIx's thread: the only call of PMIx 5.0.7 that does nothing but come back there is
// the removal of a client that does not exist.
void on_pmix_thread(PmixServer::Task task) {
  pmix_proc_t nobody;
  PMIx_Load_procid(&nobody, "stillpoint-nobody", 0);
  const auto run = [](pmix_status_t, void* context) noexcept {
    const std::unique_ptr<PmixServer::Task> owned(static_cast<PmixServer::Task*>(context));
    (*owned)();
  };
  PMIx_server_deregister_client(&nobody, run, new PmixServer::Task(std::move(task)));
}

// What a lookup has found, handed to PMIx, which copies it before it returns.
void answer_lookup(const mesh::StoreReply& found, const std::string& nspace,
                   pmix_lookup_cbfunc_t reply, void* context) {
  auto status = static_cast<pmix_status_t>(found.status());
  const auto count = static_cast<size_t>(found.found_size());
  pmix_pdata_t* data = count ? PMIx_Pdata_create(count) : nullptr;
  for (size_t i = 0; i < count && status == PMIX_SUCCESS; i++) {
    const mesh::Published& item = found.found(static_cast<int>(i));
    PMIx_Load_procid(&data[i].proc, nspace.c_str(), item.rank());
    PMIx_Load_key(data[i].key, item.key().c_str());
    if (!unpack_value(item.value(), data[i].value)) status = PMIX_ERR_UNPACK_FAILURE;
  }
  reply(status, data, status == PMIX_SUCCESS ? count : 0, context);
  if (data) PMIx_Pdata_free(data, count);
}

}  // namespace

void PmixServer::send(uint32_t node, const mesh::Message& message) {
  events_.send({node}, message);
}

Result<> PmixServer::received(uint32_t from, const mesh::Message& message) {
  switch (message.body_case()) {
    case mesh::Message::kGathered:
      return collectives_.gathered(message.gathered().key(), from,
                                   bundle_of(message.gathered().parts()));
    case mesh::Message::kSpread:
      return collectives_.spread(message.spread().key(), from, bundle_of(message.spread().parts()));
    case mesh::Message::kModexRequest:
      return answer_modex(from, message.modex_request());
    case mesh::Message::kModexReply:
      return take_modex(from, message.modex_reply());
    case mesh::Message::kStoreRequest:
      if (job_.placement.self() != kStoreNode) return nonsense("a request for another node");
      serve_store(from, message.store_request());
      return {};
    case mesh::Message::kStoreReply:
      if (from != kStoreNode) return nonsense("an answer of another node than was asked");
      return take_store(message.store_reply());
    case mesh::Message::kEvent:
      return take_event(message.event());
    default:
      return nonsense("a message of unknown kind");
  }
}

// ---- collective operations

void PmixServer::gather(uint32_t above, const std::string& key, const Collectives::Bundle& parts) {
  mesh::Message message;
  put(*message.mutable_gathered(), key, parts);
  send(above, message);
}

void PmixServer::spread(const std::vector<uint32_t>& below, const std::string& key,
                        const Collectives::Bundle& all) {
  mesh::Message message;
  put(*message.mutable_spread(), key, all);
  events_.send(below, message);
}

// ---- what a rank has told about itself

void PmixServer::ask_modex(uint32_t rank, pmix_modex_cbfunc_t reply, void* context) {
  const uint32_t node = job_.placement.node_of(rank);
  if (node == job_.placement.self()) return deliver(reply, context, PMIX_ERR_NOT_FOUND, {});
  const uint64_t id = next_request_++;
  modex_asked_[id] = {node, reply, context};
  mesh::Message message;
  message.mutable_modex_request()->set_id(id);
  message.mutable_modex_request()->set_rank(rank);
  send(node, message);
}

// PMIx answers once the rank has said it.
Result<> PmixServer::answer_modex(uint32_t node, const mesh::ModexRequest& request) {
  if (!job_.placement.knows(request.rank()) ||
      job_.placement.node_of(request.rank()) != job_.placement.self())
    return nonsense("a question about a rank of another node");
  struct Asker {
    PmixServer* server;
    uint32_t node;
    uint64_t id;
  };
  const auto answer = [](pmix_status_t status, char* data, size_t size, void* context) noexcept {
    const std::unique_ptr<Asker> asker(static_cast<Asker*>(context));
    mesh::Message message;
    auto* reply = message.mutable_modex_reply();
    reply->set_id(asker->id);
    reply->set_status(status);
    if (data) reply->set_data(data, size);
    asker->server->post_(
        [to = *asker, message = std::move(message)] { to.server->send(to.node, message); });
  };
  pmix_proc_t proc;
  PMIx_Load_procid(&proc, job_.nspace.c_str(), request.rank());
  auto* asker = new Asker{this, node, request.id()};
  const pmix_status_t status = PMIx_server_dmodex_request(&proc, answer, asker);
  if (status != PMIX_SUCCESS) answer(status, nullptr, 0, asker);
  return {};
}

Result<> PmixServer::take_modex(uint32_t node, const mesh::ModexReply& reply) {
  const auto found = modex_asked_.find(reply.id());
  if (found == modex_asked_.end() || found->second.node != node)
    return nonsense("an answer to no question");
  const ModexAsked asked = found->second;
  modex_asked_.erase(found);
  deliver(asked.reply, asked.context, reply.status(), reply.data());
  return {};
}

// ---- what ranks publish

void PmixServer::ask_store(mesh::StoreRequest request, const StoreAsked& asked) {
  request.set_id(next_request_++);
  store_asked_[request.id()] = asked;
  if (job_.placement.self() == kStoreNode) return serve_store(kStoreNode, request);
  mesh::Message message;
  *message.mutable_store_request() = std::move(request);
  send(kStoreNode, message);
}

void PmixServer::serve_store(uint32_t node, const mesh::StoreRequest& request) {
  if (request.operation() == mesh::StoreRequest::LOOKUP) return look_up(node, request);
  mesh::StoreReply reply;
  reply.set_id(request.id());
  reply.set_status(PMIX_SUCCESS);
  if (request.operation() == mesh::StoreRequest::PUBLISH)
    reply.set_status(publish(request));
  else
    store_.unpublish(request.rank(), {request.keys().begin(), request.keys().end()});
  answer_store(node, reply);
}

pmix_status_t PmixServer::publish(const mesh::StoreRequest& request) {
  for (const mesh::Published& item : request.items()) {
    auto r = store_.publish({request.rank(), item.key(), item.value()});
    if (!r)
      return r.error().kind() == ErrorKind::kBusy ? PMIX_ERR_DUPLICATE_KEY
                                                  : PMIX_ERR_OUT_OF_RESOURCE;
  }
  return PMIX_SUCCESS;
}

void PmixServer::look_up(uint32_t node, const mesh::StoreRequest& request) {
  const auto answer = [this, node, id = request.id()](const std::vector<Published>& found) {
    mesh::StoreReply reply;
    reply.set_id(id);
    reply.set_status(found.empty() ? PMIX_ERR_NOT_FOUND : PMIX_SUCCESS);
    for (const Published& item : found) {
      auto* one = reply.add_found();
      one->set_rank(item.rank);
      one->set_key(item.key);
      one->set_value(item.value);
    }
    answer_store(node, reply);
  };
  const std::vector<std::string> keys(request.keys().begin(), request.keys().end());
  if (!request.wait()) return answer(store_.find(keys));
  if (store_.await(keys, answer)) return;
  mesh::StoreReply full;
  full.set_id(request.id());
  full.set_status(PMIX_ERR_OUT_OF_RESOURCE);
  answer_store(node, full);
}

void PmixServer::answer_store(uint32_t node, const mesh::StoreReply& reply) {
  if (node == job_.placement.self()) {
    (void)take_store(reply);  // we have asked ourselves: it is there
    return;
  }
  mesh::Message message;
  *message.mutable_store_reply() = reply;
  send(node, message);
}

Result<> PmixServer::take_store(const mesh::StoreReply& reply) {
  const auto found = store_asked_.find(reply.id());
  if (found == store_asked_.end()) return nonsense("an answer to no question");
  const StoreAsked asked = found->second;
  store_asked_.erase(found);
  on_pmix_thread([asked, reply, nspace = job_.nspace] {
    if (asked.found)
      answer_lookup(reply, nspace, asked.found, asked.context);
    else
      asked.done(reply.status(), asked.context);
  });
  return {};
}

// ---- events

Result<> PmixServer::take_event(const mesh::Event& event) {
  auto infos = unpack_infos(event.info());
  if (!infos) return fail(infos.error());
  if (event.nspace().size() > PMIX_MAX_NSLEN) return nonsense("an event of nobody");
  pmix_proc_t source;
  PMIx_Load_procid(&source, event.nspace().c_str(), event.rank());
  auto* kept = new InfoArray(std::move(*infos));
  const auto done = [](pmix_status_t, void* context) noexcept {
    delete static_cast<InfoArray*>(context);
  };
  const pmix_status_t status =
      PMIx_Notify_event(event.code(), &source, static_cast<pmix_data_range_t>(event.range()),
                        kept->data(), kept->size(), done, kept);
  if (status != PMIX_SUCCESS) done(status, kept);
  return {};
}

}  // namespace stillpoint::supervisor
