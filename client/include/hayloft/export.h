// Marks what the shared library exports.
#pragma once

#define HAYLOFT_EXPORT [[gnu::visibility("default")]]
