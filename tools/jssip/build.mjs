// Writes JsSIP, with the libraries that it stands on, as one module; their licences stand at its
// head, as they ask. `node build.mjs FILE`: the same versions give the same bytes.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const options = {
  absWorkingDir: here,
  entryPoints: ["jssip"],
  bundle: true,
  format: "esm",
  legalComments: "none",
  metafile: true,
  minify: true,
  platform: "browser",
  target: "es2022",
};

function licence(name) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}`;
}

const { metafile } = await build({ ...options, write: false });
const paths = Object.keys(metafile.inputs).map((path) => path.split("node_modules/")[1]);
const names = [...new Set(paths.map((path) => path.split("/")[0]))].sort();
const licences = names.map(licence).join("\n\n").replaceAll("*/", "* /");
await build({ ...options, banner: { js: `/*\n${licences}\n*/` }, outfile: process.argv[2] });
