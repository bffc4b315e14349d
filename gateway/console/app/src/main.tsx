import "./style/fonts.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/try.css";
import "./style/plot.css";
import "./style/views.css";
import { render } from "preact";
import { App } from "./app";

const root = document.getElementById("app");
if (root) render(<App />, root);
