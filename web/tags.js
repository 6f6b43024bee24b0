// What the dataset browser counts and picks out. A picture is {id, name, caption}.

/** The caption's comma-separated parts, as the trainer sees them. */
export function tagsOf(caption) {
  return caption.split(",").map((tag) => tag.trim()).filter(Boolean);
}

/** Every tag as {tag, count}: on how many pictures it stands, in any case, the commonest first. */
export function countedTags(pictures) {
  const found = new Map();
  for (const { caption } of pictures) {
    const once = new Map(tagsOf(caption).map((tag) => [tag.toLowerCase(), tag]));
    for (const [folded, tag] of once) {
      const entry = found.get(folded) ?? { tag, count: 0 };
      entry.count += 1;
      found.set(folded, entry);
    }
  }
  return [...found.values()].sort((a, b) => b.count - a.count || a.tag.localeCompare(b.tag));
}

/** The pictures with this tag, in any case; all of them for null. */
export function withTag(pictures, tag) {
  if (tag === null) {
    return pictures;
  }
  const folded = tag.toLowerCase();
  return pictures.filter(({ caption }) => tagsOf(caption).some((each) => each.toLowerCase() === folded));
}

/** The tags in whose name these letters stand. */
export function tagsLike(tags, letters) {
  const folded = letters.trim().toLowerCase();
  return tags.filter(({ tag }) => tag.toLowerCase().includes(folded));
}

/** "1 picture", "2 pictures" */
export function many(count, thing) {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}
