#include "gateway/cluster_view.h"

#include "gateway/object_text.h"

namespace hayloft {

namespace {

void AddElement(std::string_view json, std::string* array) {
  array->append(array->empty() ? "[" : ",").append(json);
}

std::string Closed(std::string array) { return array.empty() ? "[]" : array.append("]"); }

std::string DspJson(const pb::DspStatus& dsp) {
  ObjectText json;
  json.Number("id", dsp.dsp_id())
      .Text("address", dsp.address())
      .Text("machine", dsp.machine())
      .Text("zone", dsp.zone())
      .Text("state", dsp.state());
  if (dsp.has_silent_ms()) {
    json.Number("silent_ms", dsp.silent_ms());
  } else {
    json.Raw("silent_ms", "null");
  }
  return json.Number("blocks", dsp.blocks())
      .Number("bytes_used", dsp.bytes_used())
      .Number("bytes_total", dsp.bytes_total())
      .End();
}

std::string ClusterJson(const pb::ClusterStatusReply& status) {
  std::string dsps;
  for (const pb::DspStatus& dsp : status.dsps()) AddElement(DspJson(dsp), &dsps);
  const std::string blocks = ObjectText()
                                 .Number("total", status.blocks_total())
                                 .Number("open", status.blocks_open())
                                 .Number("closed", status.blocks_closed())
                                 .Number("sealed", status.blocks_sealed())
                                 .Number("under_replicated", status.blocks_under_replicated())
                                 .Number("short_of_members", status.blocks_short_of_members())
                                 .Number("lost", status.blocks_lost())
                                 .Number("divergent", status.blocks_divergent())
                                 .End();
  const std::string files = ObjectText()
                                .Number("live", status.files_live())
                                .Number("deleted", status.files_deleted())
                                .Number("lost", status.files_lost())
                                .End();
  return ObjectText()
      .Flag("writable", status.writable())
      .Raw("blocks", blocks)
      .Raw("files", files)
      .Number("needles_corrupt", status.needles_corrupt())
      .Raw("dsps", Closed(dsps))
      .End();
}

}  // namespace

void ClusterView::Note(const StatusDone& done, uint64_t now_ms) {
  std::string nameservers;
  const pb::ClusterStatusReply* best = nullptr;
  for (const NameserverStatus& nameserver : done.nameservers) {
    const bool up = nameserver.err == Err::kOk;
    const pb::ClusterStatusReply& status = nameserver.status;
    AddElement(ObjectText()
                   .Text("address", nameserver.address)
                   .Text("role", up ? status.role() : "down")
                   .Number("epoch", up ? status.epoch() : 0)
                   .Flag("in_sync", up && status.in_sync())
                   .End(),
               &nameservers);
    const bool speaks = up && status.role() == "active";
    if (speaks && (best == nullptr || status.epoch() > best->epoch())) best = &status;
  }
  nameservers_ = Closed(std::move(nameservers));
  if (best == nullptr) return;
  cluster_ = ClusterJson(*best);
  told_ms_ = now_ms;
}

std::string ClusterView::Json(std::string_view gateway, uint64_t now_ms) const {
  ObjectText json;
  json.Raw("nameservers", nameservers_);
  if (cluster_ == "null") {
    json.Raw("age_ms", "null");
  } else {
    // The reader's thread may have looked at its clock before the one that noted it.
    json.Number("age_ms", now_ms > told_ms_ ? now_ms - told_ms_ : 0);
  }
  return json.Raw("cluster", cluster_).Raw("gateway", gateway).End().append("\n");
}

}  // namespace hayloft
