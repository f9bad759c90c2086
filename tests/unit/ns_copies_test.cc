// Blocks with several replicas, as the nameserver sees them: creation, grants, close, seal, members
// that are gone.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/unit/ns_bench.h"

namespace hayloft {
namespace {

pb::LogSettings Copies(uint32_t copies, uint32_t min_copies = 0) {
  pb::LogSettings settings = NsBench::DefaultSettings();
  settings.set_copies(copies);
  settings.set_min_copies(min_copies);
  return settings;
}

void AddDsps(NsBench* bench, int count) {
  for (int i = 0; i < count; ++i) bench->AddDsp();
  bench->Run(3'000);
}

std::vector<uint32_t> MembersOf(const NsBench& bench, uint64_t block_id) {
  const BlockRecord* record = bench.core->state().blocks.Find(block_id);
  return record == nullptr ? std::vector<uint32_t>()
                           : bench.core->state().blocks.SetMembers(record->set);
}

pb::BlockState StateOf(const NsBench& bench, uint64_t block_id) {
  const BlockRecord* record = bench.core->state().blocks.Find(block_id);
  return record == nullptr ? pb::BLOCK_UNKNOWN : static_cast<pb::BlockState>(record->state);
}

pb::Grant AnyGrant(NsBench* bench) {
  pb::GrantReply reply;
  REQUIRE_EQ(bench->Grants(1, &reply), Err::kOk);
  return reply.grants(0);
}

pb::Location Locate(NsBench* bench, uint64_t block_id) {
  pb::LocateRequest request;
  request.add_block_ids(block_id);
  pb::LocateReply reply;
  REQUIRE_EQ(bench->Ask(MessageType::kLocate, request, &reply), Err::kOk);
  return reply.locations(0);
}

std::vector<pb::SealBlockRequest> SealsOf(const FakeDsp& dsp, uint64_t block_id) {
  std::vector<pb::SealBlockRequest> seals;
  for (const RpcCall& call : dsp.commands) {
    pb::SealBlockRequest request;
    if (call.type != MessageType::kSealBlock || !request.ParseFromString(call.message)) continue;
    if (request.block_id() == block_id) seals.push_back(request);
  }
  return seals;
}

// --- Creation ---

TEST_CASE("nameserver: who locates is told of a directory, from its first declaration on") {
  NsBench bench(Copies(1));
  bench.AddDsp();
  bench.Run(3'000);
  const auto shards = [&] {
    pb::LocateRequest request;
    request.add_block_ids(1);
    pb::LocateReply reply;
    REQUIRE_EQ(bench.Ask(MessageType::kLocate, request, &reply), Err::kOk);
    return reply.directory_shards();
  };
  CHECK_EQ(shards(), 0);
  pb::DeclareDirectoryRequest declare;
  pb::DeclareDirectoryReply reply;
  for (const uint32_t bad : {0u, 257u}) {
    declare.set_shards(bad);
    CHECK_EQ(bench.Ask(MessageType::kDeclareDirectory, declare, &reply), Err::kInvalid);
  }
  declare.set_shards(4);
  REQUIRE_EQ(bench.Ask(MessageType::kDeclareDirectory, declare, &reply), Err::kOk);
  CHECK_EQ(reply.shards(), 4);
  CHECK_EQ(shards(), 4);
  const uint64_t index = bench.core->state().last_index;
  declare.set_shards(8);  // it is for good
  REQUIRE_EQ(bench.Ask(MessageType::kDeclareDirectory, declare, &reply), Err::kOk);
  CHECK_EQ(reply.shards(), 4);
  CHECK_EQ(bench.core->state().last_index, index);
  bench.RestartNameserver();
  bench.Run(3'000);
  CHECK_EQ(shards(), 4);
}

TEST_CASE("ns copies: blocks lie on three machines, each dsp leads two, under one life") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 5);
  std::map<uint32_t, int> led;
  bench.core->state().blocks.ForEach([&](const BlockRecord& record) {
    const std::vector<uint32_t>& members = bench.core->state().blocks.SetMembers(record.set);
    CHECK_EQ(members.size(), 3);
    CHECK_EQ(record.set_version, 1);
    ++led[members.front()];
    for (const uint32_t member : members) {
      const pb::BlockInfo& info = bench.Find(member)->blocks.at(record.block_id);
      CHECK_EQ(info.state(), pb::BLOCK_OPEN);
      CHECK_EQ(std::vector<uint32_t>(info.set_dsp_ids().begin(), info.set_dsp_ids().end()),
               members);
    }
  });
  CHECK_EQ(led.size(), 5);
  for (const auto& [dsp_id, blocks] : led) CHECK_EQ(blocks, 2);
  CHECK(bench.broken.empty());
  CHECK_EQ(bench.Status().blocks_under_replicated(), 0);
  const pb::Grant grant = AnyGrant(&bench);
  REQUIRE_EQ(grant.replicas_size(), 3);
  for (const pb::Replica& replica : grant.replicas()) {
    CHECK_EQ(replica.incarnation(), 1);
    CHECK_EQ(replica.address(), bench.Find(replica.dsp_id())->address);
  }
}

TEST_CASE(
    "ns copies: a member that refuses or is late is left out, and what it made is not served") {
  NsBench bench(Copies(3));
  for (int i = 0; i < 3; ++i) bench.AddDsp();
  FakeDsp& late = bench.dsps[2];
  late.slow = true;
  bench.Run(3'000);
  const pb::Grant grant = AnyGrant(&bench);
  REQUIRE_EQ(grant.replicas_size(), 2);
  CHECK_EQ(MembersOf(bench, grant.block_id()).size(), 2);
  CHECK_EQ(bench.core->state().blocks.Find(grant.block_id())->set_version, 2);
  CHECK(bench.Status().blocks_short_of_members() > 0);
  CHECK_EQ(bench.Status().blocks_under_replicated(), bench.Status().blocks_short_of_members());
  const size_t asked = late.late.size();
  REQUIRE(asked > 0);
  bench.Run(10'000);
  CHECK(late.late.size() <= 6);  // it is asked last, and not for ever more
  late.slow = false;
  bench.FinishLate(&late);
  REQUIRE_FALSE(late.blocks.empty());
  bench.Run(5'000);
  CHECK_EQ(
      bench.core->ReplicasOutside(), late.late.size() + [&] {
        uint64_t outside = 0;
        for (const auto& [block_id, info] : late.blocks) {
          const std::vector<uint32_t> members = MembersOf(bench, block_id);
          if (std::find(members.begin(), members.end(), late.dsp_id) != members.end()) continue;
          ++outside;
          CHECK_NE(info.state(), pb::BLOCK_OPEN);  // told to close it
          CHECK(late.told_sets.contains(block_id));
          CHECK_EQ(Locate(&bench, block_id).replicas_size(), static_cast<int>(members.size()));
        }
        CHECK(outside > 0);
        return outside;
      }());
}

TEST_CASE("ns copies: with too few that have it a block is closed and sealed unused") {
  NsBench bench(Copies(3));
  for (int i = 0; i < 2; ++i) bench.AddDsp();
  FakeDsp& failing = bench.dsps[1];
  failing.command_err = Err::kIo;
  bench.Run(6'000);
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(1, &grants), Err::kNoBlock);
  CHECK_EQ(bench.Status().blocks_open(), 0);
  CHECK(bench.Status().blocks_total() > 0);
  CHECK_EQ(bench.Status().blocks_sealed(), bench.Status().blocks_total());
  for (const auto& [block_id, info] : bench.dsps[0].blocks) {
    CHECK_EQ(info.state(), pb::BLOCK_SEALED);
    CHECK_EQ(MembersOf(bench, block_id), std::vector<uint32_t>{bench.dsps[0].dsp_id});
  }
  failing.command_err = Err::kOk;
  bench.Run(3'000);
  CHECK_EQ(AnyGrant(&bench).replicas_size(), 2);
}

TEST_CASE("ns copies: fewer machines than min_copies take no uploads, and say so") {
  NsBench bench(Copies(3));
  bench.AddDsp("one");
  bench.AddDsp("one");  // another disk of the same machine
  bench.Run(3'000);
  CHECK(bench.created.empty());
  CHECK_FALSE(bench.Status().writable());
  pb::GrantReply grants;
  CHECK_EQ(bench.Grants(1, &grants), Err::kNoBlock);
  bench.AddDsp("two");
  bench.Run(3'000);
  CHECK(bench.Status().writable());
  CHECK_EQ(AnyGrant(&bench).replicas_size(), 2);
  CHECK(bench.broken.empty());
  NsBench alone(Copies(3, /*min_copies=*/1));
  alone.AddDsp();
  alone.Run(3'000);
  CHECK_EQ(AnyGrant(&alone).replicas_size(), 1);
}

TEST_CASE("ns copies: machines that come a moment later are waited for, F49") {
  NsBench bench(Copies(3));
  bench.AddDsp();
  bench.AddDsp();
  bench.Run(1'400);  // both have reported
  CHECK(bench.created.empty());
  CHECK_FALSE(bench.Status().writable());
  FakeDsp& last = bench.AddDsp();
  bench.Run(3'000);
  CHECK_EQ(bench.created.size(), 6);
  CHECK_EQ(bench.Status().blocks_under_replicated(), 0);

  // After a restart too; but not when all who are known are there, nor for longer than a moment.
  last.alive = false;
  for (FakeDsp& dsp : bench.dsps) bench.RestartDsp(&dsp);
  last.alive = false;
  bench.RestartNameserver();
  bench.Run(1'400);
  CHECK_EQ(bench.created.size(), 6);
  bench.Run(2'000);
  CHECK_GE(bench.created.size(), 8);
  CHECK_EQ(AnyGrant(&bench).replicas_size(), 2);
}

TEST_CASE("ns copies: a cluster that was stopped and started opens whole sets, F49") {
  NsBench bench(Copies(3));
  for (int i = 0; i < 3; ++i) {
    const std::string machine = "machine-" + std::to_string(i);
    bench.AddDsp(machine);
    bench.AddDsp(machine);
  }
  bench.Run(3'000);
  for (FakeDsp& dsp : bench.dsps) bench.RestartDsp(&dsp);  // whose blocks are closed by that
  bench.RestartNameserver();
  bench.Run(2'000);
  CHECK_EQ(bench.created.size(), 24);
  CHECK_EQ(bench.Status().blocks_under_replicated(), 0);
}

TEST_CASE("ns copies: nobody is waited for when all who are known are there") {
  NsBench bench(Copies(3));
  bench.AddDsp();
  bench.AddDsp();
  bench.Run(5'000);
  const size_t before = bench.created.size();
  CHECK_EQ(before, 4);
  for (FakeDsp& dsp : bench.dsps) bench.RestartDsp(&dsp);
  bench.RestartNameserver();
  bench.Run(1'400);
  CHECK_EQ(bench.created.size(), 2 * before);
}

// --- Grants ---

TEST_CASE("ns copies: grants are disjoint while the machines allow, and avoid whole sets") {
  NsBench bench(Copies(2));
  AddDsps(&bench, 6);
  for (int i = 0; i < 20; ++i) {
    pb::GrantReply reply;
    REQUIRE_EQ(bench.Grants(2, &reply), Err::kOk);
    std::set<uint32_t> dsp_ids;
    for (const pb::Grant& grant : reply.grants()) {
      for (const pb::Replica& replica : grant.replicas()) dsp_ids.insert(replica.dsp_id());
    }
    CHECK_EQ(dsp_ids.size(), 4);
  }
  for (const FakeDsp& dsp : bench.dsps) {
    pb::GrantRequest request;
    request.set_count(16);
    request.add_avoid_dsp_ids(dsp.dsp_id);
    pb::GrantReply reply;
    REQUIRE_EQ(bench.Ask(MessageType::kGrant, request, &reply), Err::kOk);
    for (const pb::Grant& grant : reply.grants()) {
      for (const pb::Replica& replica : grant.replicas()) CHECK_NE(replica.dsp_id(), dsp.dsp_id);
    }
  }
}

TEST_CASE("ns copies: when all sets have the late dsp one is made without it at once") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const uint32_t late = bench.dsps[1].dsp_id;
  pb::GrantRequest request;
  request.set_count(1);
  request.add_avoid_dsp_ids(late);
  pb::GrantReply reply;
  CHECK_EQ(bench.Ask(MessageType::kGrant, request, &reply), Err::kNoBlock);
  REQUIRE_EQ(bench.Ask(MessageType::kGrant, request, &reply), Err::kOk);
  REQUIRE_EQ(reply.grants(0).replicas_size(), 2);
  for (const pb::Replica& replica : reply.grants(0).replicas()) CHECK_NE(replica.dsp_id(), late);
  // Who can't do without is better served by a late one than by none.
  request.add_avoid_dsp_ids(bench.dsps[0].dsp_id);
  CHECK_EQ(bench.Ask(MessageType::kGrant, request, &reply), Err::kOk);
}

TEST_CASE("ns copies: no grant names a dsp that is not up") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 4);
  bench.dsps[0].alive = bench.dsps[1].alive = false;  // too many at once: nothing is closed, F37
  bench.Run(5'000);
  CHECK(bench.Status().blocks_open() > 0);
  const std::set<uint32_t> up = {bench.dsps[2].dsp_id, bench.dsps[3].dsp_id};
  bench.Run(2'000);
  pb::GrantReply reply;
  REQUIRE_EQ(bench.Grants(16, &reply), Err::kOk);  // of two members, made meanwhile
  for (const pb::Grant& grant : reply.grants()) {
    CHECK_EQ(grant.replicas_size(), 2);
    for (const pb::Replica& replica : grant.replicas()) CHECK(up.contains(replica.dsp_id()));
  }
  bench.dsps[2].alive = false;
  bench.Run(5'000);
  CHECK_EQ(bench.Grants(16, &reply), Err::kNoBlock);
  CHECK_FALSE(bench.Status().writable());
  for (FakeDsp& dsp : bench.dsps) dsp.alive = true;
  bench.Run(5'000);
  CHECK(bench.Status().writable());
}

// --- Close and seal ---

TEST_CASE("ns copies: any member's doubt closes a block on all, and all seal it alike, F59 F60") {
  for (int way = 0; way < 3; ++way) {
    NsBench bench(Copies(3));
    AddDsps(&bench, 4);
    const pb::Grant grant = AnyGrant(&bench);
    const uint64_t block_id = grant.block_id();
    for (uint32_t needle = 1; needle < 20; ++needle) {
      REQUIRE_EQ(bench.Append(grant, needle), Err::kOk);
    }
    FakeDsp& member = *bench.Find(grant.replicas(2).dsp_id());
    bench.Find(grant.replicas(0).dsp_id())->needles[block_id].insert(77);  // not acknowledged
    if (way == 0) bench.CloseBlock(&member, block_id);
    if (way == 1) bench.RestartDsp(&member);
    if (way == 2) member.alive = false;  // suspect after 3 s
    bench.Run(5'000);
    CHECK_NE(StateOf(bench, block_id), pb::BLOCK_OPEN);
    for (const pb::Replica& replica : grant.replicas()) {
      if (replica.dsp_id() == member.dsp_id && !member.alive) continue;
      CHECK_NE(bench.Find(replica.dsp_id())->blocks.at(block_id).state(), pb::BLOCK_OPEN);
    }
    if (way == 2) {
      CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_CLOSED);  // not without it
      CHECK(SealsOf(bench.dsps[0], block_id).empty());
      member.alive = true;
      bench.Run(4'000);
    }
    CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
    CHECK(bench.broken.empty());
    CHECK_EQ(member.needles.at(block_id).size(), 20);
    const std::vector<pb::SealBlockRequest> seals = SealsOf(member, block_id);
    REQUIRE_FALSE(seals.empty());
    CHECK_EQ(seals[0].replicas_size(), 3);
    CHECK_FALSE(seals[0].without_all());
    CHECK_EQ(bench.Status().blocks_divergent(), 0);
  }
}

TEST_CASE("ns copies: a member that reports a sealed block as closed seals it again") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const pb::Grant grant = AnyGrant(&bench);
  FakeDsp& member = *bench.Find(grant.replicas(1).dsp_id());
  bench.CloseBlock(&member, grant.block_id());
  bench.Run(3'000);
  REQUIRE_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_SEALED);
  const size_t before = SealsOf(member, grant.block_id()).size();
  pb::BlockInfo& info = member.blocks.at(grant.block_id());
  info.set_state(pb::BLOCK_CLOSED);  // its footer was not there after a crash
  info.clear_digest();
  member.changed.push_back(grant.block_id());
  bench.Run(3'000);
  CHECK_EQ(SealsOf(member, grant.block_id()).size(), before + 1);
  CHECK_EQ(info.state(), pb::BLOCK_SEALED);
  CHECK_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_SEALED);
}

TEST_CASE("ns copies: replicas whose digests differ are sealed again, then counted as divergent") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const pb::Grant grant = AnyGrant(&bench);
  const uint64_t block_id = grant.block_id();
  REQUIRE_EQ(bench.Append(grant, 1), Err::kOk);
  FakeDsp& member = *bench.Find(grant.replicas(1).dsp_id());
  bench.CloseBlock(&member, block_id);
  bench.Run(3'000);
  REQUIRE_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
  // One that was sealed without another: its union is smaller.
  member.needles[block_id].insert(9);
  pb::BlockInfo& info = member.blocks.at(block_id);
  info.set_state(pb::BLOCK_CLOSED);
  member.changed.push_back(block_id);
  bench.Run(5'000);
  for (const FakeDsp& dsp : bench.dsps) {
    CHECK(dsp.needles.at(block_id).contains(9));
    CHECK_EQ(dsp.blocks.at(block_id).digest(), info.digest());
  }
  CHECK_EQ(bench.Status().blocks_divergent(), 0);
  // Another image under one sequence: no union mends that.
  member.divergent = 1;
  member.needles[block_id].insert(10);
  info.set_state(pb::BLOCK_CLOSED);
  member.changed.push_back(block_id);
  bench.Run(5'000);
  CHECK_EQ(bench.Status().blocks_divergent(), 1);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
  const size_t seals = SealsOf(member, block_id).size();
  bench.Run(20'000);
  CHECK_EQ(SealsOf(member, block_id).size(), seals);  // not for ever
  bench.RestartNameserver();
  bench.Run(5'000);
  CHECK_EQ(bench.Status().blocks_divergent(), 1);  // found again from the reports
}

TEST_CASE("ns copies: a nameserver that restarts knows who has closed from reports only, F10") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const pb::Grant grant = AnyGrant(&bench);
  FakeDsp& away = *bench.Find(grant.replicas(2).dsp_id());
  away.alive = false;
  bench.Run(5'000);
  REQUIRE_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_CLOSED);
  bench.RestartNameserver();
  bench.Run(5'000);
  CHECK_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_CLOSED);
  CHECK_EQ(Locate(&bench, grant.block_id()).replicas_size(), 3);
  CHECK_EQ(Locate(&bench, grant.block_id()).replicas(2).dsp_id(), away.had_dsp_id);  // last
  away.alive = true;
  bench.Run(5'000);
  CHECK_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_SEALED);
}

TEST_CASE("ns copies: a failed disk is not waited for, nor lost") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const pb::Grant grant = AnyGrant(&bench);
  FakeDsp& failed = *bench.Find(grant.replicas(1).dsp_id());
  failed.disk_state = pb::DISK_FAILED;
  bench.Run(4'000);
  CHECK_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_SEALED);
  CHECK_EQ(failed.blocks.at(grant.block_id()).state(), pb::BLOCK_CLOSED);
  CHECK_EQ(Locate(&bench, grant.block_id()).replicas_size(), 3);
  failed.disk_state = pb::DISK_HEALTHY;
  bench.RestartDsp(&failed);
  bench.Run(4'000);
  CHECK_EQ(failed.blocks.at(grant.block_id()).state(), pb::BLOCK_SEALED);
}

// --- Gone ---

TEST_CASE("ns copies: a dsp that is declared gone leaves its sets, and what waited is sealed") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 4);
  const pb::Grant grant = AnyGrant(&bench);
  FakeDsp& gone = *bench.Find(grant.replicas(0).dsp_id());
  pb::DeclareGoneReply reply;
  CHECK_EQ(bench.DeclareGone(gone.dsp_id, false, &reply), Err::kInvalid);  // it is up
  CHECK_EQ(bench.DeclareGone(99, false, &reply), Err::kNotFound);
  gone.alive = false;
  bench.Run(5'000);
  REQUIRE_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_CLOSED);
  REQUIRE_EQ(bench.DeclareGone(gone.dsp_id, false, &reply), Err::kOk);
  CHECK_EQ(reply.blocks(), gone.blocks.size());
  CHECK_EQ(reply.last_copies(), 0);
  CHECK_EQ(bench.Status().dsps(static_cast<int>(gone.had_dsp_id) - 1).state(), "down");
  bench.Run(3'000);
  CHECK_EQ(StateOf(bench, grant.block_id()), pb::BLOCK_SEALED);
  FakeDsp& other = *bench.Find(grant.replicas(1).dsp_id());
  CHECK(SealsOf(other, grant.block_id()).back().without_all());
  CHECK_EQ(SealsOf(other, grant.block_id()).back().replicas_size(), 2);
  REQUIRE(other.told_sets.contains(grant.block_id()));
  CHECK_EQ(other.told_sets.at(grant.block_id()).set_version(), 2);
  CHECK_EQ(bench.Status().blocks_short_of_members(), reply.blocks());
  // It comes back all the same.
  bench.RestartDsp(&gone);
  bench.Run(4'000);
  CHECK_EQ(bench.Status().dsps(static_cast<int>(gone.had_dsp_id) - 1).state(), "up");
  CHECK(gone.told_sets.contains(grant.block_id()));
  CHECK_EQ(Locate(&bench, grant.block_id()).replicas_size(), 2);
  CHECK_EQ(bench.core->ReplicasOutside(), reply.blocks());
  bench.RestartNameserver();
  bench.Run(4'000);
  CHECK_EQ(Locate(&bench, grant.block_id()).replicas_size(), 2);
}

TEST_CASE("ns copies: the last replica is given up only when the operator says so twice") {
  NsBench bench(Copies(2, 1));
  AddDsps(&bench, 2);
  const uint64_t block_id = AnyGrant(&bench).block_id();
  bench.dsps[0].alive = bench.dsps[1].alive = false;
  bench.Run(5'000);
  const uint32_t first = bench.dsps[0].dsp_id;
  const uint32_t second = bench.dsps[1].dsp_id;
  pb::DeclareGoneReply reply;
  REQUIRE_EQ(bench.DeclareGone(first, false, &reply), Err::kOk);
  CHECK_EQ(bench.DeclareGone(second, false, &reply), Err::kInvalid);
  REQUIRE_EQ(bench.DeclareGone(second, true, &reply), Err::kOk);
  CHECK(reply.last_copies() > 0);
  CHECK_EQ(bench.Status().blocks_lost(), bench.Status().blocks_total());
  CHECK_EQ(Locate(&bench, block_id).replicas_size(), 0);
  CHECK_NE(Locate(&bench, block_id).state(), pb::BLOCK_UNKNOWN);  // unavailable, not unknown
  bench.RestartDsp(&bench.dsps[1]);
  bench.Run(4'000);
  CHECK_EQ(Locate(&bench, block_id).replicas_size(), 1);
  CHECK_EQ(bench.Status().blocks_lost(), 0);
}

// --- Status, rebuild ---

TEST_CASE("ns copies: damage that dsps count is summed, a silent member makes under-replicated") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 4);
  bench.dsps[2].needles_corrupt = 3;
  bench.dsps[3].needles_corrupt = 4;
  bench.Run(1'000);
  CHECK_EQ(bench.Status().needles_corrupt(), 7);
  bench.dsps[1].alive = false;
  bench.Run(5'000);
  CHECK(bench.Status().blocks_under_replicated() > 0);
}

TEST_CASE(
    "ns copies: a block is under-replicated while a member is not up, lost when all are down") {
  NsBench bench(Copies(3), {.down_after_ms = 20'000});
  AddDsps(&bench, 4);
  for (FakeDsp& dsp : bench.dsps) {
    for (const auto& [block_id, info] : std::map(dsp.blocks)) {
      if (info.state() == pb::BLOCK_OPEN) bench.CloseBlock(&dsp, block_id);
    }
  }
  bench.Run(3'000);
  CHECK_EQ(bench.Status().blocks_under_replicated(), 0);
  const size_t its = bench.dsps[0].blocks.size();
  bench.dsps[0].alive = false;
  bench.Run(3'500);
  CHECK(bench.Status().blocks_under_replicated() >= its);
  CHECK_EQ(bench.Status().blocks_lost(), 0);
  for (FakeDsp& dsp : bench.dsps) dsp.alive = false;
  bench.Run(30'000);
  CHECK_EQ(bench.Status().blocks_lost(), bench.Status().blocks_total());
}

TEST_CASE(
    "ns copies: after a lost store sets come back from reports, open blocks are closed, F10") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 4);
  const pb::Grant grant = AnyGrant(&bench);
  const uint64_t open = grant.block_id();
  REQUIRE_EQ(bench.Append(grant, 1), Err::kOk);
  const std::vector<uint32_t> members = MembersOf(bench, open);
  FakeDsp& away = *bench.Find(members[2]);
  away.alive = false;
  pb::LogSettings settings = Copies(3);
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(4);
  bench.WipeNameserver(settings);
  bench.Run(8'000);
  CHECK_EQ(MembersOf(bench, open), members);  // also the one that nobody has heard of
  CHECK_EQ(StateOf(bench, open), pb::BLOCK_CLOSED);
  CHECK_EQ(Locate(&bench, open).replicas_size(), 2);
  CHECK(bench.Status().writable());
  away.alive = true;
  bench.Run(8'000);
  CHECK_EQ(StateOf(bench, open), pb::BLOCK_SEALED);
  CHECK_EQ(Locate(&bench, open).replicas_size(), 3);
  CHECK_FALSE(bench.core->state().settings.rebuilding());
  CHECK(bench.broken.empty());
}

TEST_CASE("ns copies: after a lost store the set of the highest version wins") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 4);
  const pb::Grant grant = AnyGrant(&bench);
  const uint64_t block_id = grant.block_id();
  const std::vector<uint32_t> members = MembersOf(bench, block_id);
  FakeDsp& newer = *bench.Find(members[1]);
  pb::BlockInfo& info = newer.blocks.at(block_id);  // of a file that was written anew
  info.set_set_version(4);
  info.clear_set_dsp_ids();
  info.add_set_dsp_ids(members[1]);
  info.add_set_dsp_ids(members[2]);
  pb::LogSettings settings = Copies(3);
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(4);
  bench.WipeNameserver(settings);
  bench.Run(8'000);
  CHECK_EQ(MembersOf(bench, block_id), std::vector<uint32_t>{members[1], members[2]});
  CHECK_EQ(bench.core->state().blocks.Find(block_id)->set_version, 4);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
  CHECK(bench.core->ReplicasOutside() >= 1);
}

// It was declared gone, came back, and was the first to report to a nameserver without a store:
// nothing may be read from it.
TEST_CASE("ns copies: after a lost store who is in a later set no more is told so, F69") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const uint64_t block_id = AnyGrant(&bench).block_id();
  const uint32_t first = bench.dsps[0].dsp_id;  // who reports first
  for (const size_t other : {1, 2}) {
    pb::BlockInfo& info = bench.dsps[other].blocks.at(block_id);
    info.set_set_version(2);
    info.clear_set_dsp_ids();
    for (const uint32_t member : {1, 2, 3}) {
      if (member != first) info.add_set_dsp_ids(member);
    }
  }
  pb::LogSettings settings = Copies(3);
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(3);
  bench.dsps[1].alive = bench.dsps[2].alive = false;
  bench.WipeNameserver(settings);
  bench.Run(5'000);
  REQUIRE_EQ(bench.core->state().blocks.Find(block_id)->set_version, 1);
  bench.dsps[1].alive = bench.dsps[2].alive = true;
  bench.Run(5'000);
  REQUIRE_EQ(bench.core->state().blocks.Find(block_id)->set_version, 2);
  REQUIRE(bench.dsps[0].told_sets.contains(block_id));
  CHECK_EQ(bench.dsps[0].told_sets.at(block_id).set_version(), 2);
}

TEST_CASE("ns copies: after a lost store a member that does not come back is shown, and given up") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 3);
  const uint64_t block_id = AnyGrant(&bench).block_id();
  FakeDsp& lost = bench.dsps[2];
  const uint32_t number = lost.had_dsp_id;
  lost.alive = false;
  pb::LogSettings settings = Copies(3);
  settings.set_rebuilding(true);
  settings.set_rebuild_dsps(2);
  bench.WipeNameserver(settings);
  bench.Run(8'000);
  REQUIRE_FALSE(bench.core->state().dsps.contains(number));
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_CLOSED);  // it may have what the others lack
  const auto state_of = [&](const auto& list) {
    for (const auto& dsp : list) {
      if (dsp.dsp_id() == number) return std::to_string(dsp.state());
    }
    return std::string("not there");
  };
  CHECK_EQ(state_of(bench.dsps[0].heard.peers()), std::to_string(pb::PEER_SUSPECT));
  bool shown = false;
  const pb::ClusterStatusReply status = bench.Status();
  for (const pb::DspStatus& dsp : status.dsps()) {
    shown |= dsp.dsp_id() == number && dsp.state() == "suspect";
  }
  CHECK(shown);
  pb::DeclareGoneReply reply;
  REQUIRE_EQ(bench.DeclareGone(number, false, &reply), Err::kOk);
  bench.Run(4'000);
  CHECK_EQ(StateOf(bench, block_id), pb::BLOCK_SEALED);
  const pb::ClusterStatusReply after = bench.Status();
  for (const pb::DspStatus& dsp : after.dsps()) CHECK_NE(dsp.dsp_id(), number);
}

TEST_CASE(
    "ns copies: the 30 % rule and a stall hold for sets, and a block is closed once, F33 F37") {
  NsBench bench(Copies(3));
  AddDsps(&bench, 5);
  const uint64_t blocks = bench.Status().blocks_open();
  bench.now.mono_ms += 60'000;
  bench.Run(2'000);
  CHECK_EQ(bench.Status().blocks_open(), blocks);
  std::map<uint64_t, uint64_t> epochs;
  bench.core->state().blocks.ForEach(
      [&](const BlockRecord& record) { epochs[record.block_id] = record.block_epoch; });
  bench.dsps[0].alive = false;
  bench.Run(4'000);
  bench.dsps[1].alive = false;  // a second one, later: two of five on two machines are too many
  bench.Run(10'000);
  for (const auto& [block_id, epoch] : epochs) {
    const std::vector<uint32_t> members = MembersOf(bench, block_id);
    const bool has =
        std::find(members.begin(), members.end(), bench.dsps[0].dsp_id) != members.end();
    CHECK_EQ(StateOf(bench, block_id), has ? pb::BLOCK_CLOSED : pb::BLOCK_OPEN);
    CHECK_EQ(bench.core->state().blocks.Find(block_id)->block_epoch, epoch + (has ? 1 : 0));
  }
}

}  // namespace
}  // namespace hayloft
