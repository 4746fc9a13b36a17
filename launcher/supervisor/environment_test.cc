#include "launcher/supervisor/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stillpoint::supervisor {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

TEST(Environment, OuterLaunchersAreForgotten) {
  const Environment env = {"PATH=/bin",
                           "PMIX_RANK=3",
                           "PMIX_SERVER_URI41=x",
                           "PMIX_MCA_gds=hash",
                           "PMI_FD=4",
                           "PRTE_LAUNCHED=1",
                           "OMPI_COMM_WORLD_RANK=3",
                           "OMPI_MCA_btl=self,sm",
                           "OMPI_MCA_num_procs=9",
                           "SLURM_PROCID=3",
                           "SLURM_STEP_ID=0",
                           "SLURM_JOB_ID=17",
                           "=odd",
                           "no equals sign"};
  EXPECT_THAT(without_outer_launcher(env), ElementsAre("PATH=/bin", "PMIX_MCA_gds=hash",
                                                       "OMPI_MCA_btl=self,sm", "SLURM_JOB_ID=17"));
}

TEST(Environment, ARankKnowsItsPlace) {
  const Launch launch{.argv = {"prog", "a", "b"},
                      .env = {"HOME=/home/x", "PWD=/elsewhere", "OMPI_COMM_WORLD_RANK=9"},
                      .directory = "/data",
                      .ranks = 4,
                      .local_ranks = 4};
  const Environment env =
      rank_environment(launch, 2, 2, {"PMIX_RANK=2", "PMIX_SERVER_URI41=a=b;c"});
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_RANK"), "2");
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_LOCAL_RANK"), "2");
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_SIZE"), "4");
  EXPECT_EQ(value_of(env, "OMPI_UNIVERSE_SIZE"), "4");
  EXPECT_EQ(value_of(env, "OMPI_COMMAND"), "prog");
  EXPECT_EQ(value_of(env, "OMPI_ARGV"), "a b");
  EXPECT_EQ(value_of(env, "PWD"), "/data");
  EXPECT_EQ(value_of(env, "HOME"), "/home/x");
  EXPECT_EQ(value_of(env, "PMIX_RANK"), "2");
  EXPECT_EQ(value_of(env, "PMIX_SERVER_URI41"), "a=b;c");
  EXPECT_THAT(env, Not(Contains("PWD=/elsewhere")));
  EXPECT_THAT(env, Not(Contains("OMPI_COMM_WORLD_RANK=9")));
}

TEST(Environment, YieldsWhenOversubscribedUnlessTheUserKnowsBetter) {
  Launch launch{.argv = {"p"}, .env = {}, .directory = "/", .ranks = 2};
  constexpr auto kYield = "OMPI_MCA_mpi_yield_when_idle";
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kYield), "");
  launch.oversubscribed = true;
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kYield), "1");
  launch.env = {"OMPI_MCA_mpi_yield_when_idle=0"};
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kYield), "0");
}

TEST(Environment, ARankOfAnotherNodeKnowsBothItsPlaces) {
  const Launch launch{
      .argv = {"p"}, .env = {}, .directory = "/", .ranks = 8, .nodes = 3, .local_ranks = 2};
  const Environment env = rank_environment(launch, 5, 1, {});
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_RANK"), "5");
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_LOCAL_RANK"), "1");
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_NODE_RANK"), "1");
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_SIZE"), "8");
  EXPECT_EQ(value_of(env, "OMPI_COMM_WORLD_LOCAL_SIZE"), "2");
}

TEST(Environment, SeveralNodesAreConnectedByMpi0UnlessTheUserKnowsBetter) {
  constexpr auto kInclude = "OMPI_MCA_btl_tcp_if_include";
  Launch launch{.argv = {"p"}, .env = {}, .directory = "/", .ranks = 2};
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kInclude), "");
  launch.nodes = 2;
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kInclude), "mpi0");
  launch.env = {"OMPI_MCA_btl_tcp_if_include=eth0"};
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kInclude), "eth0");
  launch.env = {"OMPI_MCA_btl_tcp_if_exclude=lo"};
  EXPECT_EQ(value_of(rank_environment(launch, 0, 0, {}), kInclude), "");
}

TEST(Environment, WarnsWhereMpi0IsNotUsed) {
  Launch launch{.argv = {"p"}, .env = {}, .directory = "/", .ranks = 2};
  const auto warning = [&launch](const std::string& variable) {
    launch.env = {variable};
    return network_warning(launch);
  };
  EXPECT_EQ(warning("OMPI_MCA_btl_tcp_if_include=eth0"), "");
  launch.nodes = 2;
  EXPECT_THAT(warning("OMPI_MCA_btl_tcp_if_include=eth0"),
              ::testing::HasSubstr("OMPI_MCA_btl_tcp_if_include=eth0 keeps Open MPI from mpi0"));
  EXPECT_NE(warning("OMPI_MCA_btl_tcp_if_exclude=lo,mpi0"), "");
  EXPECT_EQ(warning("OMPI_MCA_btl_tcp_if_include=lo,mpi0"), "");
  EXPECT_EQ(warning("OMPI_MCA_btl_tcp_if_exclude=lo"), "");
  EXPECT_EQ(warning("OMPI_MCA_btl_tcp_if_include=100.64.0.0/16"), "");
  EXPECT_EQ(warning("HOME=/"), "");
}

TEST(Environment, ValueOfFindsWholeNamesOnly) {
  EXPECT_EQ(value_of({"PATHOLOGY=x", "PATH=y"}, "PATH"), "y");
  EXPECT_EQ(value_of({"PATHOLOGY=x"}, "PATH"), "");
}

}  // namespace
}  // namespace stillpoint::supervisor
