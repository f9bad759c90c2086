#include "tests/sim/sim_client.h"

#include <algorithm>
#include <cinttypes>

namespace hayloft {

SimClient::SimClient(SimWorld* world, SimModel* model, SimClientOptions options)
    : world_(world), model_(model), options_(std::move(options)), random_(world->random.Next()) {
  clock_.mono_offset_ms = world_->random.Below(1'000'000'000);
}

void SimClient::Start() {
  ASSERT(core_ == nullptr);
  ClientOptions options;
  options.nameservers = options_.nameservers;
  core_ = std::make_unique<ClientCore>(options, &random_);
  const uint64_t life = ++life_;
  world_->net.Start(options_.address,
                    {.now = [this] { return now(); },
                     .on_request = [](RpcRequest&&) { ASSERT(!"serves nothing"); },
                     .on_done =
                         [this](CallDone&& done) {
                           ClientOutbox outbox;
                           core_->OnCallDone(std::move(done), now(), &outbox);
                           Flush(&outbox);
                         }});
  world_->events.After(world_->random.Below(kTickUs), [this, life] { Tick(life); });
  world_->events.After(world_->random.Below(options_.think_us_max), [this, life] { Work(life); });
}

void SimClient::Crash() {
  ASSERT(core_ != nullptr);
  world_->trace.Note("%s crash", options_.address.c_str());
  world_->net.Stop(options_.address);
  core_.reset();
  for (const auto& [op_id, pending] : std::exchange(pending_, {})) {
    const PendingSetDelete* change = std::get_if<PendingSetDelete>(&pending);
    if (change == nullptr) continue;
    model_->SetDeleteEnded(change->operation, {.op_id = op_id, .err = Err::kUnavailable},
                           world_->events.now_us());
  }
}

void SimClient::Tick(uint64_t life) {
  if (core_ == nullptr || life != life_) return;
  ClientOutbox outbox;
  core_->OnTick(now(), &outbox);
  Flush(&outbox);
  world_->events.After(kTickUs, [this, life] { Tick(life); });
}

void SimClient::Work(uint64_t life) {
  if (core_ == nullptr || life != life_ || reading_back_) return;
  if (started_ >= options_.operations) return;
  const uint64_t now_us = world_->events.now_us();
  if (options_.rests && now_us >= rests_until_us_ && world_->random.Below(25) == 0) {
    rests_until_us_ = now_us + world_->random.Between(1'000, 4'000) * 1000;
  }
  if (pending_.size() < options_.in_flight_max && now_us >= rests_until_us_) StartOperation();
  world_->events.After(world_->random.Below(options_.think_us_max), [this, life] { Work(life); });
}

void SimClient::StartOperation() {
  ++started_;
  SimRandom& random = world_->random;
  const uint64_t kind = random.Below(100);
  const size_t hot = std::min(options_.hot_files, model_->files());
  if (hot > 0 && random.Chance(40)) return StartSetDelete(random.Below(hot));
  if (kind < 50 || model_->files() == 0) return StartPut();
  const size_t file = random.Below(model_->files());
  if (kind < 80) return StartGet(file);
  if (kind < 85) return StartStat(file, 5'000);
  return StartSetDelete(file);
}

void SimClient::Register(uint64_t op_id, Pending pending) {
  ASSERT(op_id != 0);
  const bool fresh = pending_.emplace(op_id, std::move(pending)).second;
  ASSERT(fresh);
}

void SimClient::StartPut() {
  SimFile file = SimModel::MakeFile(&world_->random);
  PutRequest request;
  request.stored = Buffer::CopyOf(AsBytes(file.stored));
  request.raw_size = file.raw_size;
  request.encoding = file.encoding;
  request.metadata = file.metadata;
  request.timeout_ms = static_cast<uint32_t>(world_->random.Between(1'000, 10'000));
  ClientOutbox outbox;
  Register(core_->Put(std::move(request), now(), &outbox), PendingPut{std::move(file)});
  Flush(&outbox);
}

void SimClient::StartGet(size_t index) {
  SimRandom& random = world_->random;
  const SimFile& file = model_->file(index);
  PendingGet get{.expected = model_->Expect(index)};
  get.request.address = file.address;
  get.request.timeout_ms = 5'000;
  const uint64_t kind = random.Below(100);
  if (kind < 25) {
    get.request.offset = random.Below(file.raw_size);
    get.request.length = random.Below(file.raw_size);  // 0: to the end; may reach behind it
  } else if (kind < 35) {
    get.request.suffix = random.Between(1, 2 * uint64_t{file.raw_size});
  } else if (kind < 40) {
    get.request.head_only = true;
  } else if (kind < 45) {
    get.request.include_deleted = true;
    get.expected = model_->ExpectDeletedToo(index);
  } else if (kind < 48) {
    get.wrong_name = true;
    get.request.address.file_id.value ^= uint64_t{1} << random.Below(40);  // of the cookie
  } else if (kind < 50) {
    get.wrong_name = true;
    get.request.address.file_id = FileId::Of(kSequenceMax, random.Below(kCookieMax));
  }
  GetRequest request = get.request;
  ClientOutbox outbox;
  Register(core_->Get(std::move(request), now(), &outbox), std::move(get));
  Flush(&outbox);
}

void SimClient::StartStat(size_t file, uint32_t timeout_ms) {
  ClientOutbox outbox;
  const StatRequest request{.address = model_->file(file).address, .timeout_ms = timeout_ms};
  Register(core_->Stat(StatRequest(request), now(), &outbox), PendingStat{model_->Expect(file)});
  Flush(&outbox);
}

void SimClient::StartSetDelete(size_t file) {
  SetDelete(file, model_->file(file).counter_acked % 2 == 1 || world_->random.Chance(10));
}

void SimClient::SetDelete(size_t file, bool undelete) {
  SetDeleteRequest request;
  request.address = model_->file(file).address;
  request.undelete = undelete;
  request.timeout_ms = 5'000;
  ClientOutbox outbox;
  Register(core_->SetDelete(std::move(request), now(), &outbox),
           PendingSetDelete{model_->SetDeleteStarted(file, undelete)});
  Flush(&outbox);
}

void SimClient::ReadBack(std::vector<ReadBackOne> files) {
  ASSERT(running());
  reading_back_ = true;
  read_back_ = std::move(files);
  next_read_back_ = 0;
  Finish();
  for (uint32_t i = 0; i < options_.in_flight_max; ++i) ReadBackNext();
}

void SimClient::ReadBackNext() {
  constexpr uint32_t kPatienceMs = 20'000;
  if (next_read_back_ >= read_back_.size()) return;
  const size_t file = read_back_[next_read_back_].file;
  const bool remove = read_back_[next_read_back_].remove;
  const std::string dsp = read_back_[next_read_back_++].dsp;
  if (remove) {
    SetDeleteRequest request{.address = model_->file(file).address, .timeout_ms = kPatienceMs};
    ClientOutbox outbox;
    Register(core_->SetDelete(std::move(request), now(), &outbox),
             PendingSetDelete{model_->SetDeleteStarted(file, /*undelete=*/false)});
    return Flush(&outbox);
  }
  PendingGet get{.expected = model_->Expect(file)};
  get.request.address = model_->file(file).address;
  get.request.timeout_ms = kPatienceMs;
  get.request.dsp = dsp;
  GetRequest request = get.request;
  ClientOutbox outbox;
  Register(core_->Get(std::move(request), now(), &outbox), std::move(get));
  Flush(&outbox);
  StartStat(file, kPatienceMs);
}

// Sends what the core wants to send and takes in what it answers.
void SimClient::Flush(ClientOutbox* outbox) {
  for (RpcCall& call : outbox->calls) world_->net.Call(options_.address, std::move(call));
  for (PutDone& done : outbox->puts) OnPut(std::move(done));
  for (GetDone& done : outbox->gets) OnGet(std::move(done));
  for (const StatDone& done : outbox->stats) {
    const PendingStat stat = Take<PendingStat>(done.op_id);
    world_->trace.Note("stat %s %s", ToText(model_->file(stat.expected.index).address).c_str(),
                       ErrName(done.err).data());
    model_->CheckStat(stat.expected, done, world_->healed);
  }
  for (const SetDeleteDone& done : outbox->set_deletes) {
    const SimModel::SetDelete operation = Take<PendingSetDelete>(done.op_id).operation;
    world_->trace.Note("%s %s %s %u", operation.undelete ? "undelete" : "delete",
                       ToText(model_->file(operation.index).address).c_str(),
                       ErrName(done.err).data(), done.counter);
    model_->SetDeleteEnded(operation, done, world_->events.now_us());
    if (!reading_back_) continue;
    if (done.err != Err::kOk) {
      world_->trace.Fail("delete of %s answers %s with nothing broken",
                         ToText(model_->file(operation.index).address).c_str(),
                         ErrName(done.err).data());
    }
    ReadBackNext();
  }
}

template <typename Kind>
Kind SimClient::Take(uint64_t op_id) {
  const auto found = pending_.find(op_id);
  ASSERT(found != pending_.end());  // an operation was answered twice, or was never begun
  ASSERT(std::holds_alternative<Kind>(found->second));
  Kind taken = std::get<Kind>(std::move(found->second));
  pending_.erase(found);
  return taken;
}

void SimClient::OnPut(PutDone&& done) {
  PendingPut put = Take<PendingPut>(done.op_id);
  world_->trace.Note("put %s %s %s", ToText(done.address).c_str(), ErrName(done.err).data(),
                     done.dsp.c_str());
  if (done.err != Err::kOk) return;
  model_->Acknowledged(std::move(put.file), done);
  if (options_.on_put) options_.on_put(done.address);
}

void SimClient::OnGet(GetDone&& done) {
  const PendingGet get = Take<PendingGet>(done.op_id);
  world_->trace.Note("get %s %s", ToText(get.request.address).c_str(), ErrName(done.err).data());
  if (!get.wrong_name) {
    model_->CheckGet(get.expected, get.request, done, world_->healed);
  } else if (done.err == Err::kOk || done.err == Err::kGone) {
    world_->trace.Fail("a name that nobody has answers %s", ErrName(done.err).data());
  }
  if (reading_back_) ReadBackNext();
}

}  // namespace hayloft
