# find_package(hayloft CONFIG REQUIRED)
# target_link_libraries(yours hayloft::hayloft)          # or hayloft::hayloft_static
if(TARGET hayloft::hayloft)
  return()
endif()
get_filename_component(_hayloft_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

add_library(hayloft::hayloft SHARED IMPORTED)
set_target_properties(hayloft::hayloft PROPERTIES
  IMPORTED_LOCATION "${_hayloft_prefix}/lib/libhayloft.so"
  IMPORTED_SONAME "libhayloft.so.0"
  INTERFACE_INCLUDE_DIRECTORIES "${_hayloft_prefix}/include"
  INTERFACE_COMPILE_FEATURES cxx_std_17)

add_library(hayloft::hayloft_static STATIC IMPORTED)
set_target_properties(hayloft::hayloft_static PROPERTIES
  IMPORTED_LOCATION "${_hayloft_prefix}/lib/libhayloft.a"
  INTERFACE_INCLUDE_DIRECTORIES "${_hayloft_prefix}/include"
  INTERFACE_COMPILE_FEATURES cxx_std_17
  INTERFACE_LINK_LIBRARIES "event_core;crypto;zstd;isal;protobuf;pthread")

unset(_hayloft_prefix)
