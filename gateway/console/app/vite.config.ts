import { defineConfig } from "vite";

// The names of the files stay the same from build to build: they are committed, and the gateway has
// browsers ask for them again each time.
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    license: { fileName: "licenses.md" },
    rolldownOptions: {
      output: {
        entryFileNames: "console.js",
        chunkFileNames: "[name].js",
        assetFileNames: (asset) =>
          asset.names.some((name) => name.endsWith(".css")) ? "console.css" : "[name][extname]",
      },
    },
  },
  // `npm run dev` beside `make run`.
  server: { proxy: { "/v1": "http://127.0.0.1:8080", "/console/api": "http://127.0.0.1:8080" } },
});
