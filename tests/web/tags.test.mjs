import assert from "node:assert/strict";
import test from "node:test";
import { countedTags, many, tagsLike, tagsOf, withTag } from "../../web/tags.js";

const pictures = ["cat, Hat, tree", "hat,  cat ,cat", "", "<img src=x>, cat"].map((caption, id) => ({ id, caption }));

test("tags are the trimmed parts between commas", () => {
  assert.deepEqual(tagsOf(" a cat ,, hat,"), ["a cat", "hat"]);
  assert.deepEqual(tagsOf(""), []);
});

test("a tag counts once on a picture, in any case, the commonest first", () => {
  const found = countedTags(pictures).map(({ tag, count }) => [tag, count]);
  assert.deepEqual(found.slice(0, 2), [["cat", 3], ["Hat", 2]]);
  assert.deepEqual(new Set(found.slice(2).map(([tag]) => tag)), new Set(["tree", "<img src=x>"]));
});

test("a tag named like a part of every object is a tag like others", () => {
  assert.deepEqual(countedTags([{ caption: "constructor, __proto__" }]).length, 2);
});

test("pictures with a tag have all of it, in any case", () => {
  assert.deepEqual(withTag(pictures, "HAT").map(({ id }) => id), [0, 1]);
  assert.deepEqual(withTag(pictures, "ca"), []);
  assert.equal(withTag(pictures, null), pictures);
});

test("tags are found by some of their letters", () => {
  assert.deepEqual(tagsLike(countedTags(pictures), " HA").map(({ tag }) => tag), ["Hat"]);
  assert.equal(tagsLike(countedTags(pictures), "").length, 4);
});

test("one is no many", () => {
  assert.deepEqual([0, 1, 2].map((count) => many(count, "file")), ["0 files", "1 file", "2 files"]);
});
