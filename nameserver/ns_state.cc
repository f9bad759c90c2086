#include "nameserver/ns_state.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace hayloft {

namespace {

Err ApplyDsp(const pb::LogDsp& dsp, NsState* state) {
  if (dsp.dsp_id() == 0 || dsp.disk_id().size() != 16) return Err::kCorrupt;
  state->dsps[dsp.dsp_id()] = dsp;
  return Err::kOk;
}

// The masks know members by their place in the set.
void MoveMasks(const std::vector<uint32_t>& from, const std::vector<uint32_t>& to,
               BlockRecord* record) {
  for (uint8_t* mask : {&record->absent, &record->closed, &record->sealed}) {
    const uint8_t old = std::exchange(*mask, uint8_t{0});
    for (size_t i = 0; i < to.size(); ++i) {
      const auto at = std::find(from.begin(), from.end(), to[i]);
      if (at == from.end()) continue;
      const auto place = static_cast<size_t>(at - from.begin());
      *mask = static_cast<uint8_t>(*mask | (((old >> place) & 1u) << i));
    }
  }
}

Err ApplyBlock(const pb::LogBlock& block, NsState* state) {
  if (block.block_id() > kBlockIdMax) return Err::kCorrupt;
  if (block.removed()) {
    state->blocks.Remove(block.block_id());
    return Err::kOk;
  }
  const int members = block.set_dsp_ids_size();
  if (members < 1 || static_cast<uint32_t>(members) > kReplicasMax) return Err::kCorrupt;
  for (auto member = block.set_dsp_ids().begin(); member != block.set_dsp_ids().end(); ++member) {
    const bool twice = std::find(block.set_dsp_ids().begin(), member, *member) != member;
    if (*member == 0 || twice) return Err::kCorrupt;
  }
  if (block.state() < pb::BLOCK_OPEN || block.state() > pb::BLOCK_SEALED) return Err::kCorrupt;
  BlockRecord record;
  const std::vector<uint32_t> dsp_ids(block.set_dsp_ids().begin(), block.set_dsp_ids().end());
  const uint32_t set = state->blocks.Intern(dsp_ids);
  // What is not logged outlives the change.
  if (const BlockRecord* before = state->blocks.Find(block.block_id())) {
    record = *before;
    if (before->set != set) MoveMasks(state->blocks.SetMembers(before->set), dsp_ids, &record);
  }
  record.block_id = block.block_id();
  record.opening_epoch = block.opening_epoch();
  record.block_epoch = block.block_epoch();
  record.state = static_cast<uint8_t>(block.state());
  record.set = set;
  record.set_version = block.set_version();
  state->blocks.Put(record);
  return Err::kOk;
}

Err ApplyOperation(const pb::LogRecord& record, NsState* state) {
  switch (record.operation_case()) {
    case pb::LogRecord::kNewEpoch:
      if (record.new_epoch().epoch() < state->epoch) return Err::kCorrupt;
      state->epoch = record.new_epoch().epoch();
      return Err::kOk;
    case pb::LogRecord::kDsp:
      return ApplyDsp(record.dsp(), state);
    case pb::LogRecord::kIdRange:
      // The last range may reach one past the last id.
      if (record.id_range().end() > kBlockIdMax + 1) return Err::kCorrupt;
      state->id_range_end = std::max(state->id_range_end, record.id_range().end());
      return Err::kOk;
    case pb::LogRecord::kBlock:
      return ApplyBlock(record.block(), state);
    case pb::LogRecord::kSettings:
      state->settings = record.settings();
      return Err::kOk;
    case pb::LogRecord::kNothing:
      return Err::kOk;
    case pb::LogRecord::OPERATION_NOT_SET:
      return Err::kCorrupt;  // of a version that knows more: it must not be skipped
  }
  return Err::kCorrupt;
}

}  // namespace

Err ApplyRecord(const pb::LogRecord& record, NsState* state) {
  if (record.index() != state->last_index + 1) return Err::kCorrupt;
  TRY(ApplyOperation(record, state));
  state->last_index = record.index();
  return Err::kOk;
}

pb::LogBlock LogBlockOf(const NsState& state, const BlockRecord& record) {
  pb::LogBlock block;
  block.set_block_id(record.block_id);
  block.set_opening_epoch(record.opening_epoch);
  block.set_block_epoch(record.block_epoch);
  block.set_state(static_cast<pb::BlockState>(record.state));
  block.set_set_version(record.set_version);
  for (const uint32_t dsp_id : state.blocks.SetMembers(record.set)) block.add_set_dsp_ids(dsp_id);
  ASSERT(block.set_dsp_ids_size() > 0);
  return block;
}

}  // namespace hayloft
