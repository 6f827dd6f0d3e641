// Send a run of made-up volumes to a server; docs/wire.md says what is sent. With libzmq3-dev and nlohmann-json3-dev:
//     g++ -std=c++17 examples/wire_sender.cpp -lzmq -o wire_sender && ./wire_sender tcp://127.0.0.1:5555
#include <zmq.h>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>
using nlohmann::json;
using namespace std::chrono;

// Send a message, again if needed, until it is acknowledged; return the reply.
json deliver(void *socket, json header, const std::vector<int16_t> &voxels = {}) {
    header["rtgod"] = 1;
    const std::string text = header.dump();
    const auto give_up = steady_clock::now() + 30s;
    while (steady_clock::now() < give_up) {
        zmq_send(socket, text.data(), text.size(), voxels.empty() ? 0 : ZMQ_SNDMORE);
        if (!voxels.empty()) zmq_send(socket, voxels.data(), voxels.size() * sizeof(int16_t), 0);
        zmq_pollitem_t waiting{socket, 0, ZMQ_POLLIN, 0};
        while (zmq_poll(&waiting, 1, 3000) > 0) {  // milliseconds
            zmq_msg_t frame;
            zmq_msg_init(&frame);
            zmq_msg_recv(&frame, socket, 0);
            const auto *bytes = static_cast<const char *>(zmq_msg_data(&frame));
            const json reply = json::parse(bytes, bytes + zmq_msg_size(&frame));
            zmq_msg_close(&frame);
            const bool is_ours = reply["run_id"] == header["run_id"] && reply["index"] == header.value("index", json());
            if (is_ours && reply["type"] == "acknowledged") return reply;
            if (is_ours && reply["type"] == "refused") throw std::runtime_error("refused: " + reply["why"].dump());
            if (!is_ours && reply["run_id"] != "") continue;  // of a message that was sent twice
            std::this_thread::sleep_for(1s);                   // deferred, or garbled on the way
            break;
        }
    }
    throw std::runtime_error("not acknowledged within 30 s; is `rtgod serve` running?");
}

int main(int, char **arguments) try {
    void *socket = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    if (zmq_connect(socket, arguments[1]) != 0) throw std::runtime_error(zmq_strerror(zmq_errno()));
    const std::vector<int> shape{24, 26, 20};
    const json affine{{3, 0, 0, -34}, {0, 3, 0, -38}, {0, 0, 3, -30}, {0, 0, 0, 1}};
    const std::string acquisition = std::to_string(system_clock::now().time_since_epoch().count());
    const json run{{"type", "run"}, {"run_id", "my-run"}, {"subject", "S1"}, {"tr_s", 2.0}, {"n_volumes", 3},
                   {"shape", shape}, {"affine", affine}, {"acquisition", acquisition}};
    const json name = deliver(socket, run)["taken_as"];
    const json data{{"field", "data"}, {"dtype", "int16"}, {"shape", shape}, {"order", "F"}};  // x varies fastest
    for (int index = 0; index < 3; ++index) {
        std::vector<int16_t> voxels(shape[0] * shape[1] * shape[2]);  // little-endian on any usual machine
        for (size_t i = 0; i < voxels.size(); ++i) voxels[i] = static_cast<int16_t>(1000 * index + i);
        deliver(socket, {{"type", "volume"}, {"run_id", name}, {"index", index}, {"acquired_s", 2.0 * index},
                         {"arrays", json::array({data})}}, voxels);
    }
    deliver(socket, {{"type", "run-end"}, {"run_id", name}, {"n_volumes", 3}});
} catch (const std::exception &error) {
    std::cerr << error.what() << std::endl;
    return 1;
}
