# node: event loop, workers, child processes, HTTP over loopback, crypto, zlib.
command -v node >/dev/null || { echo "node is not installed"; exit 77; }
set -eu
cat > t.js <<'EOT'
const http = require('http'), cp = require('child_process'), crypto = require('crypto'), zlib = require('zlib'), fs = require('fs');
const { Worker } = require('worker_threads');
(async () => {
  console.log(crypto.createHash('sha256').update('x'.repeat(1e6)).digest('hex'));
  console.log(zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(100000, 'a'))).length);
  console.log(cp.execFileSync('sh', ['-c', 'echo $((6*7))']).toString().trim());
  await new Promise(r => new Worker('require("worker_threads").parentPort.postMessage(40+2)', { eval: true }).on('message', m => { console.log(m); }).on('exit', r));
  const server = http.createServer((q, s) => s.end('hello ' + q.url)).listen(0, '127.0.0.1');
  await new Promise(r => server.on('listening', r));
  const bodies = await Promise.all([...Array(20).keys()].map(i => new Promise(r => http.get({ port: server.address().port, path: '/' + i }, s => { let b = ''; s.on('data', d => b += d).on('end', () => r(b)); }))));
  console.log(bodies.join(',')); server.close();
  fs.writeFileSync('f', 'data'); console.log(fs.readFileSync('f', 'utf8'), fs.statSync('f').size);
  console.log(await new Promise(r => setTimeout(() => r('timer'), 20)));
})();
EOT
node t.js
