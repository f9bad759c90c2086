#include "gateway/answers.h"

#include "gateway/http_date.h"
#include "gateway/object_text.h"

namespace hayloft {

namespace {

std::string ReplicasJson(const StatDone& stat) {
  std::string json = "[";
  for (const StatReplica& replica : stat.replicas) {
    if (json.size() > 1) json.push_back(',');
    json += ObjectText().Text("dsp", replica.dsp).Text("state", ErrName(replica.err)).End();
  }
  return json.append("]");
}

void AddFile(const UploadAnswer& upload, ObjectText* json) {
  json->Text("id", upload.id)
      .Text("url", upload.url)
      .Number("size", upload.size)
      .Text("sha1", upload.sha1_hex)
      .Text("content_type", upload.content_type)
      .Flag("duplicate", upload.duplicate);
}

}  // namespace

std::string_view FaultCode(const HttpFault& fault) {
  return fault.code != nullptr ? fault.code : StatusCodeName(fault.status);
}

std::string ErrSentence(Err err) {
  switch (err) {
    case Err::kTooLarge:
      return "This is larger than the store takes.";
    case Err::kTimeout:
      return "The store did not answer in time; try again later.";
    case Err::kUnavailable:
    case Err::kNotServing:
    case Err::kNotActive:
    case Err::kStaleEpoch:
    case Err::kClosed:
    case Err::kCancelled:
      return "The part of the store that this needs can't be reached now; try again later.";
    default:
      break;
  }
  std::string sentence(ErrMeaning(err));
  ASSERT(!sentence.empty());
  if (sentence[0] >= 'a' && sentence[0] <= 'z') sentence[0] = static_cast<char>(sentence[0] - 32);
  return sentence.append(".");
}

std::string UploadJson(const UploadAnswer& upload) {
  ObjectText json;
  AddFile(upload, &json);
  return json.Text("delete_token", upload.delete_token).End();
}

std::string NameJson(const NameAnswer& answer) {
  ObjectText json;
  json.Text("name", answer.name);
  AddFile(answer.file, &json);
  return json.Text("name_token", answer.token).End().append("\n");
}

std::string NamesJson(const NamesPage& page, const UrlTemplates& urls) {
  std::string names = "[";
  for (const pb::DirNamed& named : page.names) {
    if (names.size() > 1) names.push_back(',');
    const std::string id =
        ToText(FileAddress{named.file().block_id(), FileId{named.file().file_id()}});
    names +=
        ObjectText().Text("name", named.name()).Text("id", id).Text("url", urls.Url(id, "")).End();
  }
  ObjectText json;
  json.Raw("names", names.append("]"));
  if (page.more) json.Text("after", page.after);
  return json.End().append("\n");
}

Result<std::string> FileJson(std::string_view id, const StatDone& stat) {
  TRY_ASSIGN(const NeedleHead head, ParseNeedleHead(AsBytes(stat.head)));
  TRY_ASSIGN(const Metadata metadata, ParseMetadata(head.metadata));
  ObjectText fields;
  for (const auto& [name, value] : metadata.fields) fields.Text(name, value);
  return ObjectText()
      .Text("id", id)
      .Number("size", head.header.raw_size)
      .Text("sha1", ToHex(metadata.sha1))
      .Text("sha256", ToHex(metadata.sha256))
      .Text("content_type", metadata.content_type)
      .Text("created", FormatTimestamp(head.header.created_ms))
      .Number("block", head.header.block_id)
      .Flag("deleted", stat.delete_counter % 2 == 1)
      .Raw("replicas", ReplicasJson(stat))
      .Raw("fields", fields.End())
      .End()
      .append("\n");
}

std::string UndeleteJson(std::string_view id) {
  return ObjectText().Text("id", id).Flag("deleted", false).End().append("\n");
}

}  // namespace hayloft
