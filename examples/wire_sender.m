function wire_sender(address)
  % Send a run of made-up volumes to a server; docs/wire.md says what is sent. In GNU Octave 7 with its package zeromq,
  % or in MATLAB whose Python (pyenv) has pyzmq:
  %     wire_sender('tcp://127.0.0.1:5555')
  socket = open_socket(address);
  shape = [24 26 20];
  affine = [3 0 0 -34; 0 3 0 -38; 0 0 3 -30; 0 0 0 1];
  acquisition = sprintf('%.6f', now() * 86400);
  run = struct('type', 'run', 'run_id', 'my-run', 'subject', 'S1', 'tr_s', 2, 'shape', shape, 'affine', affine, ...
               'n_volumes', 3, 'acquisition', acquisition);
  name = getfield(deliver(socket, run), 'taken_as');
  spec = struct('field', 'data', 'dtype', 'int16', 'shape', shape, 'order', 'F');  % as MATLAB has its arrays
  for index = 0:2
    data = reshape(int16(0:prod(shape) - 1) + 1000 * index, shape);
    volume = struct('type', 'volume', 'run_id', name, 'index', index, 'acquired_s', 2 * index, 'arrays', {{spec}});
    deliver(socket, volume, data);
  end
  deliver(socket, struct('type', 'run-end', 'run_id', name, 'n_volumes', 3));
end

function reply = deliver(socket, header, data)
  % Send a message, again if needed, until it is acknowledged; return the reply.
  header.rtgod = 1;
  frames = {unicode2native(jsonencode(header), 'UTF-8')};
  if nargin > 2, frames{2} = typecast(reshape(data, 1, []), 'uint8'); end  % little-endian on any usual machine
  index = [];  % as JSON's null is read
  if isfield(header, 'index'), index = header.index; end
  started = tic();
  while toc(started) < 30
    send_frames(socket, frames);
    while wait_for(socket, 3000)  % milliseconds
      reply = jsondecode(native2unicode(receive(socket), 'UTF-8'));
      is_ours = strcmp(reply.run_id, header.run_id) && isequal(reply.index, index);
      if is_ours && strcmp(reply.type, 'acknowledged'), return, end
      if is_ours && strcmp(reply.type, 'refused'), error('refused: %s', reply.why); end
      if is_ours || isempty(reply.run_id), pause(1); break, end  % deferred, or garbled on the way
    end  % any other reply belongs to a message that was sent twice
  end
  error('not acknowledged within 30 s; is `rtgod serve` running?');
end

function is_it = is_octave(), is_it = exist('OCTAVE_VERSION', 'builtin') > 0; end

function socket = open_socket(address)
  if is_octave(), pkg('load', 'zeromq'); socket = zmq_socket(ZMQ_DEALER); zmq_connect(socket, address); return, end
  socket = py.zmq.Context().socket(py.zmq.DEALER); socket.connect(address);
end

function send_frames(socket, frames)
  if ~is_octave(), socket.send_multipart(cellfun(@py.bytes, frames, 'UniformOutput', false)); return, end
  for i = 1:numel(frames), zmq_send(socket, frames{i}, ZMQ_SNDMORE * (i < numel(frames))); end
end

function there = wait_for(socket, ms)
  if is_octave(), there = zmq_poll(socket, ms); else, there = double(socket.poll(int64(ms))) > 0; end
end

function bytes = receive(socket)
  if is_octave(), bytes = zmq_recv(socket, 2^20, 0); else, bytes = uint8(socket.recv()); end
end
