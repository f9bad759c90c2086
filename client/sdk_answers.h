// From a ClientCore's answers to those of the SDK. Pure.
#pragma once

#include "client/client_types.h"
#include "common/result.h"
#include "hayloft/image.h"
#include "hayloft/options.h"
#include "hayloft/status.h"

namespace hayloft {

Status StatusOf(Err err);

struct ImageMaker {
  // The raw bytes of `done` that `wanted` asks for, decoded if they are stored encoded. kCorrupt
  // when the answer does not hold them, kRange behind the image's end.
  static Result<Image> Make(GetDone&& done, const GetOptions& wanted);
};

// kCorrupt when it can't be taken apart.
Result<ImageInfo> InfoOf(Bytes head);
Result<ImageInfo> InfoOf(const StatDone& done);

}  // namespace hayloft
