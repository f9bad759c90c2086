// Stores a file, reads it back, deletes it. To build it:
//   c++ -std=c++17 example_main.cc $(pkg-config --cflags --libs hayloft)
#include <hayloft/client.h>
#include <fstream>
#include <iostream>
#include <iterator>

int main(int argc, char** argv) {
  if (argc < 4) return std::cerr << "usage: example NAMESERVER KEY_FILE IMAGE [SHARD]...\n", 2;
  hayloft::Options options;
  options.cluster = argv[1];
  options.key_file = argv[2];
  options.directory.assign(argv + 4, argv + argc);  // nodes of each shard: see `hayloft status`
  std::ifstream file(argv[3], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::unique_ptr<hayloft::Client> client;
  hayloft::Stored stored;
  hayloft::Image image;
  hayloft::Status status = hayloft::Client::Open(options, &client);
  if (status.ok()) status = client->Put(bytes, {}, &stored);
  if (status.ok()) status = client->Get(stored.id, {}, &image);
  if (status.ok() && image.bytes() != bytes) status = {hayloft::Code::kInternal, "other bytes"};
  if (status.ok()) status = client->Delete(stored.id, {stored.delete_token});
  if (!status.ok()) {
    std::cerr << status.ToString() << (status.MayRetry() ? "; try again later\n" : "\n");
    return 1;
  }
  std::cout << stored.id << " " << stored.content_type << " " << stored.size << "\n";
  return client->Get(stored.id, {}, &image).IsDeleted() ? 0 : 1;
}
