// CopyCode: a button that copies `code`, and shows what it copied.

function render({ model, el }) {
  el.classList.add("upsnet-copy");
  el.innerHTML = `<button type="button" class="jupyter-button lm-Widget">copy as code</button><pre tabindex="0" hidden></pre>`;
  const [button, shown] = el.children;
  const draw = () => { shown.textContent = model.get("code"); };
  button.addEventListener("click", () => {
    shown.hidden = false;
    const said = (text) => { button.textContent = text; setTimeout(() => { button.textContent = "copy as code"; }, 1500); };
    const copying = navigator.clipboard?.writeText(model.get("code")) ?? Promise.reject();
    copying.then(() => said("copied"), () => said("select it below")); // a page without that right
  });
  model.on("change:code", draw);
  draw();
  return () => model.off("change:code", draw);
}

export default { render };
