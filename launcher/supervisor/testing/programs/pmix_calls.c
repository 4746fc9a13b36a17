/* pmix_calls WHAT: what MPI seldom or never asks of PMIx.  Each rank prints "WHAT: right".
   modex BYTES   every rank's bytes reach all by a fence, then others by asking for them
   event         rank 0 tells all
   publish       the last rank publishes what the others wait for
   connect       connect and disconnect
   place         prints what PMIx says of the nodes, and of each rank */
#include <pmix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pmix_proc_t me;
static uint32_t size;
static volatile int told;

static void check(pmix_status_t status, const char* what) {
  if (status == PMIX_SUCCESS || status == PMIX_OPERATION_SUCCEEDED) return;
  fprintf(stderr, "rank %u: %s: %s\n", me.rank, what, PMIx_Error_string(status));
  exit(1);
}

static pmix_proc_t rank_of(uint32_t rank) {
  pmix_proc_t proc;
  PMIx_Load_procid(&proc, me.nspace, rank);
  return proc;
}

static void fence(bool collect) {
  pmix_proc_t all = rank_of(PMIX_RANK_WILDCARD);
  pmix_info_t info;
  PMIx_Info_construct(&info);
  PMIx_Info_load(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
  check(PMIx_Fence(&all, 1, &info, 1), "PMIx_Fence");
}

static void put(const char* key, size_t bytes, int seed) {
  pmix_value_t value;
  PMIx_Value_construct(&value);
  value.type = PMIX_BYTE_OBJECT;
  value.data.bo.bytes = malloc(bytes);
  value.data.bo.size = bytes;
  memset(value.data.bo.bytes, seed, bytes);
  check(PMIx_Put(PMIX_GLOBAL, key, &value), "PMIx_Put");
  check(PMIx_Commit(), "PMIx_Commit");
  PMIx_Value_destruct(&value);
}

static void expect(uint32_t rank, const char* key, size_t bytes, int seed) {
  pmix_proc_t proc = rank_of(rank);
  pmix_value_t* value;
  check(PMIx_Get(&proc, key, NULL, 0, &value), key);
  if (value->type != PMIX_BYTE_OBJECT || value->data.bo.size != bytes) exit(2);
  for (size_t i = 0; i < bytes; i++)
    if (value->data.bo.bytes[i] != (char)seed) exit(3);
  PMIx_Value_free(value, 1);
}

static void modex(size_t bytes) {
  put("early", bytes, (int)me.rank + 1);
  fence(true);
  for (uint32_t rank = 0; rank < size; rank++) expect(rank, "early", bytes, (int)rank + 1);
  fence(false);
  put("late", bytes, (int)me.rank + 50);
  fence(false);
  for (uint32_t rank = 0; rank < size; rank++) expect(rank, "late", bytes, (int)rank + 50);
}

static void hear(size_t id, pmix_status_t code, const pmix_proc_t* source, pmix_info_t info[],
                 size_t count, pmix_info_t* results, size_t result_count,
                 pmix_event_notification_cbfunc_fn_t done, void* context) {
  (void)id, (void)code, (void)results, (void)result_count;
  for (size_t i = 0; i < count; i++)
    if (PMIx_Check_key(info[i].key, "a.number") && info[i].value.data.uint32 == 42 &&
        source->rank == 0)
      told++;
  if (done) done(PMIX_EVENT_ACTION_COMPLETE, NULL, 0, NULL, NULL, context);
}

static void event(void) {
  pmix_status_t code = PMIX_EXTERNAL_ERR_BASE - 7;
  const pmix_status_t id = PMIx_Register_event_handler(&code, 1, NULL, 0, hear, NULL, NULL);
  if (id < 0) check(id, "PMIx_Register_event_handler");
  fence(false);
  if (me.rank == 0) {
    pmix_info_t info;
    uint32_t number = 42;
    PMIx_Info_construct(&info);
    PMIx_Info_load(&info, "a.number", &number, PMIX_UINT32);
    check(PMIx_Notify_event(code, &me, PMIX_RANGE_NAMESPACE, &info, 1, NULL, NULL),
          "PMIx_Notify_event");
  }
  for (int i = 0; i < 2000 && !told; i++) usleep(10000);
  usleep(200000); /* for a second one, which must not come */
  if (told != 1) {
    fprintf(stderr, "rank %u was told %d times\n", me.rank, told);
    exit(4);
  }
  fence(false);
}

static void publish(void) {
  if (me.rank == size - 1) {
    pmix_info_t info;
    PMIx_Info_construct(&info);
    PMIx_Info_load(&info, "a name", "a value", PMIX_STRING);
    usleep(300000); /* so that the others wait */
    check(PMIx_Publish(&info, 1), "PMIx_Publish");
    if (PMIx_Publish(&info, 1) != PMIX_ERR_DUPLICATE_KEY) exit(5);
  } else {
    pmix_info_t info;
    bool yes = true;
    PMIx_Info_construct(&info);
    PMIx_Info_load(&info, PMIX_WAIT, &yes, PMIX_BOOL);
    pmix_pdata_t data;
    PMIx_Pdata_construct(&data);
    PMIx_Load_key(data.key, "a name");
    check(PMIx_Lookup(&data, 1, &info, 1), "PMIx_Lookup");
    if (strcmp(data.value.data.string, "a value") != 0 || data.proc.rank != size - 1) exit(6);
  }
  fence(false);
  char* keys[] = {"a name", NULL};
  if (me.rank == size - 1) check(PMIx_Unpublish(keys, NULL, 0), "PMIx_Unpublish");
  fence(false);
  pmix_pdata_t data;
  PMIx_Pdata_construct(&data);
  PMIx_Load_key(data.key, "a name");
  if (PMIx_Lookup(&data, 1, NULL, 0) != PMIX_ERR_NOT_FOUND) exit(7);
}

static void connect_all(void) {
  pmix_proc_t all = rank_of(PMIX_RANK_WILDCARD);
  check(PMIx_Connect(&all, 1, NULL, 0), "PMIx_Connect");
  check(PMIx_Disconnect(&all, 1, NULL, 0), "PMIx_Disconnect");
}

static const char* text_of(uint32_t rank, const char* key) {
  static char number[32];
  pmix_proc_t proc = rank_of(rank);
  pmix_value_t* value;
  if (PMIx_Get(&proc, key, NULL, 0, &value) != PMIX_SUCCESS) return "-";
  if (value->type == PMIX_STRING) return value->data.string;
  if (value->type == PMIX_UINT16)
    snprintf(number, sizeof number, "%u", value->data.uint16);
  else
    snprintf(number, sizeof number, "%u", value->data.uint32);
  return number;
}

static void place(void) {
  printf("nodes %s", text_of(PMIX_RANK_WILDCARD, PMIX_NUM_NODES));
  printf(" %s", text_of(PMIX_RANK_WILDCARD, PMIX_NODE_LIST));
  printf(" peers %s", text_of(PMIX_RANK_WILDCARD, PMIX_LOCAL_PEERS));
  printf(" of %s;", text_of(PMIX_RANK_WILDCARD, PMIX_LOCAL_SIZE));
  for (uint32_t rank = 0; rank < size; rank++) {
    printf(" %u=%s", rank, text_of(rank, PMIX_HOSTNAME));
    printf("/%s", text_of(rank, PMIX_NODEID));
    printf("/%s", text_of(rank, PMIX_LOCAL_RANK));
  }
  printf("\n");
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  check(PMIx_Init(&me, NULL, 0), "PMIx_Init");
  size = (uint32_t)atoi(text_of(PMIX_RANK_WILDCARD, PMIX_JOB_SIZE));
  if (strcmp(argv[1], "modex") == 0) modex((size_t)atol(argv[2]));
  if (strcmp(argv[1], "event") == 0) event();
  if (strcmp(argv[1], "publish") == 0) publish();
  if (strcmp(argv[1], "connect") == 0) connect_all();
  if (strcmp(argv[1], "place") == 0)
    place();
  else
    printf("%s: right\n", argv[1]);
  fflush(stdout);
  fence(false);
  check(PMIx_Finalize(NULL, 0), "PMIx_Finalize");
  return 0;
}
