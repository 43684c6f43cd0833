// Upload: the user's own image. `name` and `content` go to Python; what Python makes of them comes back as `said`.

function render({ model, el }) {
  el.classList.add("upsnet-upload");
  el.innerHTML = `<label><span>your own image</span><input type="file" accept="image/*"></label><span role="status"></span>`;
  const [input, told] = [el.querySelector("input"), el.querySelector("[role=status]")];
  const draw = () => { told.textContent = model.get("said"); };
  input.addEventListener("change", async () => {
    const [file] = input.files, most = model.get("most");
    if (!file) return;
    input.value = ""; // so that the same file can be chosen again
    if (file.size > most) {
      told.textContent = `${file.name} has ${(file.size / 1e6).toFixed(0)} MB, more than ${most / 1e6} MB; scale it down`;
      return;
    }
    told.textContent = `reading ${file.name} …`;
    model.set("said", "");
    model.set("name", file.name);
    model.set("content", new DataView(await file.arrayBuffer()));
    model.save_changes();
  });
  model.on("change:said", draw);
  draw();
  return () => model.off("change:said", draw);
}

export default { render };
