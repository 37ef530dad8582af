// SPDX-License-Identifier: Apache-2.0
// Calls a reco server as a JavaScript program would, with @grpc/grpc-js and @grpc/proto-loader.
//
// usage: node interop.js ADDRESS PROTO_DIR calls    a plan from stdin, one result a line
//        node interop.js ADDRESS PROTO_DIR watch    each state of the server's health, one a line
//
// A line of the plan: {"path": "reco.v1.Search/Search", "requests": [...]}. A line of the result:
// {"replies": [...], "error": null | {"code", "message", "details": [...]}}. interop.py, which
// knows what is right, reads them.

'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const DEADLINE_MS = 30000;
const OPTIONS = { keepCase: true, longs: String, enums: String, bytes: String, defaults: true, arrays: true };

const [address, protoDir, mode] = process.argv.slice(2);

// All messages and services that the server has; both versions of reflection are one text.
function readProtos() {
  const wire = (name) => fs.readFileSync(path.join(protoDir, 'wire/rpc', name), 'utf8');
  const root = new protobuf.Root();
  const parse = (text) => protobuf.parse(text, root, { keepCase: true });
  root.addJSON(protobuf.common.get('google/protobuf/any.proto').nested);
  root.addJSON(protobuf.common.get('google/protobuf/duration.proto').nested);
  for (const name of ['rpc_health.proto', 'rpc_status.proto', 'rpc_error_details.proto']) parse(wire(name));
  parse(wire('rpc_reflection.proto'));
  parse(wire('rpc_reflection.proto').replaceAll('v1alpha', 'v1'));
  parse(fs.readFileSync(path.join(protoDir, 'reco.proto'), 'utf8'));
  return root;
}

const root = readProtos();
const definitions = loader.fromJSON(root.toJSON(), OPTIONS);

// The details of an error, with their types, as google.rpc.Status carries them.
function detailsOf(error) {
  const packed = error.metadata && error.metadata.get('grpc-status-details-bin')[0];
  if (!packed) return [];
  const status = root.lookupType('google.rpc.Status').decode(packed);
  return status.details.map((any) => {
    const name = any.type_url.split('/').pop();
    const type = root.lookupType(name);
    return { '@type': name, ...type.toObject(type.decode(any.value), { longs: String }) };
  });
}

function errorOf(error) {
  return { code: error.code, message: error.details, details: detailsOf(error) };
}

function clientOf(service) {
  return new grpc.Client(address, grpc.credentials.createInsecure());
}

const clients = new Map();

function call(name, requests) {
  const [service, method] = name.split('/');
  const definition = definitions[service][method];
  if (!clients.has(service)) clients.set(service, clientOf(service));
  const client = clients.get(service);
  const send = [definition.path, definition.requestSerialize, definition.responseDeserialize];
  const options = { deadline: Date.now() + DEADLINE_MS };
  const metadata = new grpc.Metadata();
  return new Promise((resolve) => {
    const replies = [];
    const finish = (error, reply) => resolve({ replies: reply ? [reply] : [], error: error ? errorOf(error) : null });
    let stream;
    if (!definition.requestStream && !definition.responseStream) {
      client.makeUnaryRequest(...send, requests[0], metadata, options, finish);
      return;
    }
    if (definition.requestStream && !definition.responseStream) {
      stream = client.makeClientStreamRequest(...send, metadata, options, finish);
    } else {
      stream = definition.requestStream
        ? client.makeBidiStreamRequest(...send, metadata, options)
        : client.makeServerStreamRequest(...send, requests[0], metadata, options);
      let failed = null;
      stream.on('data', (reply) => replies.push(reply));
      stream.on('error', (error) => { failed = errorOf(error); });
      stream.on('status', () => setImmediate(() => resolve({ replies, error: failed })));
    }
    if (definition.requestStream) {
      for (const request of requests) stream.write(request);
      stream.end();
    }
  });
}

async function runPlan() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const step = JSON.parse(line);
    console.log(JSON.stringify(await call(step.path, step.requests)));
  }
  clients.forEach((client) => client.close());
}

// Ends when the server does.
function watch() {
  const definition = definitions['grpc.health.v1.Health'].Watch;
  const stream = clientOf().makeServerStreamRequest(definition.path, definition.requestSerialize,
    definition.responseDeserialize, { service: '' }, new grpc.Metadata());
  stream.on('data', (reply) => console.log(reply.status));
  stream.on('error', () => process.exit(0));
}

if (mode === 'watch') watch();
else runPlan();
