// read.js LIVE PREFIXED MOUNTED: as read.py, in the ways of Node.
const fs = require("fs");
const [live, prefixed, mounted] = process.argv.slice(2);
const LINES = 500, MOST_FAULTS = 10;
let stopped = false;
process.on("SIGTERM", () => { stopped = true; });

function numberOf(value) {
	const text = value.toString("latin1"), number = Number(text.slice(0, 8));
	if (!text || text !== text.slice(0, 9).repeat(LINES + (number % 64)))
		throw new Error(`not one whole value: ${text.length} bytes, ${JSON.stringify(text.slice(0, 9) + ".." + text.slice(-9))}`);
	return number;
}

function byOffset(descriptor) {
	const parts = [];
	for (let at = 0; ;) {
		const part = Buffer.alloc(4096), got = fs.readSync(descriptor, part, 0, part.length, at);
		if (!got) return Buffer.concat(parts);
		parts.push(part.subarray(0, got));
		at += got;
	}
}

async function byHandle(handle) {
	const parts = [];
	for (let at = 0; ;) {
		const { bytesRead, buffer } = await handle.read(Buffer.alloc(4096), 0, 4096, at);
		if (!bytesRead) return Buffer.concat(parts);
		parts.push(buffer.subarray(0, bytesRead));
		at += bytesRead;
	}
}

async function byStream(path) {
	const parts = [];
	for await (const part of fs.createReadStream(path)) parts.push(part);
	return Buffer.concat(parts);
}

async function main() {
	const held = fs.openSync(live), handle = await fs.promises.open(prefixed);
	const ways = {
		"fs.readFileSync": () => fs.readFileSync(live),
		"fs.readSync at 0": () => byOffset(held),
		"fs.promises.readFile (prefix)": () => fs.promises.readFile(prefixed),
		"fs.readFileSync (subPath)": () => fs.readFileSync(mounted),
		"FileHandle.read at 0": () => byHandle(handle),
		"fs.createReadStream (prefix)": () => byStream(prefixed),
	};
	const reads = {}, faults = [];
	let last = 0, versions = 0;
	if (fs.realpathSync(prefixed) !== prefixed) faults.push("fs.realpathSync: somewhere else");
	try {  // the libc's own is not taken over: the folder is not there
		fs.realpathSync.native(prefixed);
		faults.push("fs.realpathSync.native: found");
	} catch {}
	console.log("ready");
	for (; ;) {
		const isLastRound = stopped;
		for (const [name, way] of Object.entries(ways)) {
			reads[name] = (reads[name] || 0) + 1;
			try {
				const number = numberOf(await way());
				if (number < last) faults.push(`${name}: ${number} after ${last}`);
				if (number > last) versions++;
				last = Math.max(last, number);
			} catch (error) {
				faults.push(`${name}: ${error.message}`);
			}
		}
		if (!fs.existsSync(prefixed) || fs.statSync(prefixed).size % 9) faults.push("fs.existsSync: not found");
		if (isLastRound) break;
		await new Promise((resolve) => setTimeout(resolve, 4));
	}
	console.log(JSON.stringify({ reads, faults: faults.slice(0, MOST_FAULTS), last, versions }));
	process.exit(0);
}

main();
