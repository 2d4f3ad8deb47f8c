(function () {
  "use strict";
  // A shape's <title> moves into a quick tooltip while the pointer is on it, and back when it leaves.
  var tip = document.createElement("div"), shape = null, title = null;
  tip.id = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);
  function leave() {
    if (shape && title) shape.appendChild(title);
    shape = title = null;
    tip.hidden = true;
  }
  document.addEventListener("pointermove", function (event) {
    var target = event.target;
    if (target !== shape) {
      leave();
      var child = target.ownerSVGElement && target.firstElementChild;
      if (child && child.nodeName === "title") {
        shape = target;
        title = child;
        shape.removeChild(title);
        tip.textContent = title.textContent;
        tip.hidden = false;
      }
    }
    if (shape) {
      var x = event.clientX + 14, y = event.clientY + 14;
      if (x + tip.offsetWidth + 8 > innerWidth) x = event.clientX - tip.offsetWidth - 10;
      if (y + tip.offsetHeight + 8 > innerHeight) y = event.clientY - tip.offsetHeight - 10;
      tip.style.left = Math.max(4, x) + "px";
      tip.style.top = Math.max(4, y) + "px";
    }
  });
  document.addEventListener("pointerleave", leave);
})();
