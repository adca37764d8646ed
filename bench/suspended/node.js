// Timers, an HTTP server with clients on the loopback, workers with messages and shared memory.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const http = require('http');
const crypto = require('crypto');
const hash = text => crypto.createHash('sha256').update(text).digest('hex');

if (!isMainThread) {
    const shared = new Int32Array(workerData.shared);
    let state = String(workerData.number);
    for (let i = 0; i < 30000; i++) {
        state = hash(state);
        Atomics.add(shared, 0, 1);
    }
    parentPort.postMessage(state);
} else {
    const shared = new SharedArrayBuffer(8);
    const workers = [0, 1, 2].map(number => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: { number, shared } });
        worker.on('message', resolve);
        worker.on('error', reject);
    }));
    let ticks = 0;
    const ticker = new Promise(resolve => {
        const interval = setInterval(() => { if (++ticks === 150) { clearInterval(interval); resolve('ticked'); } }, 10);
    });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
    const ask = number => new Promise((resolve, reject) => {
        const body = 'x'.repeat(number * 37 % 50000);
        const request = http.request({ port: 8080, host: '127.0.0.1', method: 'POST', agent, path: '/' + number }, answer => {
            let text = '';
            answer.on('data', data => text += data);
            answer.on('end', () => text === number + ' ' + hash(body) ? resolve() : reject(new Error('wrong answer ' + text)));
        });
        request.on('error', reject);
        request.end(body);
    });
    const server = http.createServer((request, answer) => {
        let body = '';
        request.on('data', data => body += data);
        request.on('end', () => setTimeout(() => answer.end(request.url.slice(1) + ' ' + hash(body)), 3));
    });
    /* It would close connections that are idle for 5 s, and who is kept from running for so long sends into one: ECONNRESET, natively too. */
    server.keepAliveTimeout = 0;
    server.listen(8080, '127.0.0.1', async () => {
        for (let i = 0; i < 60; i++)
            await Promise.all(Array.from({ length: 8 }, (_, k) => ask(i * 8 + k)));
        const results = await Promise.all([...workers, ticker]);
        console.log(hash(results.join()), ticks, new Int32Array(shared)[0]);
        agent.destroy();
        server.close();
    });
}
